"""The way to upstream's own models, without a Redis and without its folder in the user's home.

Upstream chooses its backend when `sotopia.database` is imported: redis-om, which asks for a server, or files below
the home folder. Here it gets a backend of ours before that, which keeps nothing: our own stores do.
Importing sotopia.database takes seconds: call this where the models are needed, never at import time.
"""

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sotopia_sdpo.errors import UserError, first_reason
from sotopia_sdpo.store.base import ProfileKind, Store
from sotopia_sdpo.store.documents import CLASS_OF


if TYPE_CHECKING:
    from sotopia.database import AgentProfile, EnvironmentProfile

BACKEND_VARIABLE = "SOTOPIA_STORAGE_BACKEND"
BACKEND_MODULE = "sotopia.database.storage_backend"


@cache
def upstream_models() -> ModuleType:
    """Import sotopia.database on a backend of ours and return it.

    Raises:
        RuntimeError: if the installed sotopia has no such backend any more.
    """
    if "sotopia.database" not in sys.modules:
        os.environ[BACKEND_VARIABLE] = "local"
        module = _load_backend_module()
        # Upstream prints where its files are, which would not be true.
        with contextlib.redirect_stdout(io.StringIO()):
            database: Any = importlib.import_module("sotopia.database")
        database.storage_backend = module
    return sys.modules["sotopia.database"]


def environment(store: Store, pk: str) -> "EnvironmentProfile":
    """Read a scenario as upstream's model; a UserError where it is missing."""
    found: EnvironmentProfile = typed_profile(store, "environments", pk)
    return found


def agent(store: Store, pk: str) -> "AgentProfile":
    """Read a character as upstream's model; a UserError where it is missing."""
    found: AgentProfile = typed_profile(store, "agents", pk)
    return found


def typed_profile(store: Store, kind: ProfileKind, pk: str) -> Any:
    """Read a profile as upstream's model.

    Raises:
        UserError: if there is no such profile, or upstream's model does not take it.
    """
    profile, name = store.get_profile(kind, pk), kind.removesuffix("s")
    if profile is None:
        raise UserError(f"{store.url}: {name} {pk} is missing; import its profile with `sotopia db import`")
    try:
        return getattr(upstream_models(), CLASS_OF[kind])(**profile)
    except ValidationError as err:
        raise UserError(f"{store.url}: {name} {pk}: {first_reason(err)}; import it again") from err


def _load_backend_module() -> Any:
    """Load upstream's backend module before its package, and put our backend in it."""
    package = importlib.util.find_spec("sotopia")
    folders = (package and package.submodule_search_locations) or []
    paths = (Path(folder) / "database" / "storage_backend.py" for folder in folders)
    path = next(filter(Path.exists, paths), None)
    spec = importlib.util.spec_from_file_location(BACKEND_MODULE, path) if path else None
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{BACKEND_MODULE} is not in the installed sotopia; expected sotopia 0.1.5")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[BACKEND_MODULE] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "_storage_backend") or not hasattr(module, "LocalJSONBackend"):
        raise RuntimeError(f"{BACKEND_MODULE} has changed; expected sotopia 0.1.5")
    module._storage_backend = _backend_class(module)()
    return module


def _backend_class(module: Any) -> Any:
    """Return the backend's class: one of upstream's local kind, since upstream asks for that type."""

    def refused(_: object, model_class: type, *_arguments: object) -> Any:
        raise RuntimeError(f"upstream reads or writes a {model_class.__name__}; expected only sotopia_sdpo.store to")

    names = ("get", "all", "find", "save", "delete")
    body = {"__init__": lambda _: None, "base_path": Path(), **dict.fromkeys(names, refused)}
    return type("NoBackend", (module.LocalJSONBackend,), body)
