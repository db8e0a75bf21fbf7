"""The way to upstream's own models, without a Redis and without its folder in the user's home.

Upstream chooses its backend when `sotopia.database` is imported: redis-om, which asks for a server, or files below
the home folder. Here it gets a backend of ours before that, which reads from the store that was named last by
`serve_upstream`, so that upstream's `AgentProfile.get(pk)` and the like find what is in our database too.
Importing sotopia.database takes seconds: call this where the models are needed, never at import time.
"""

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import uuid
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.base import Profile, ProfileKind, Store
from sotopia_sdpo.store.documents import DOCUMENT_CLASSES, first_reason


BACKEND_VARIABLE = "SOTOPIA_STORAGE_BACKEND"
BACKEND_MODULE = "sotopia.database.storage_backend"
CLASS_OF: dict[str, str] = {kind: name for name, kind in DOCUMENT_CLASSES.items()}
_served: list[Store] = []


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
            database = importlib.import_module("sotopia.database")
        database.storage_backend = module
    return sys.modules["sotopia.database"]


def serve_upstream(store: Store) -> None:
    """Let upstream's models read from this store: `EnvironmentProfile.get(pk)`, `.all()`, `.find(...)`."""
    upstream_models()
    _served[:] = [store]


def typed_profile(kind: ProfileKind, pk: str, profile: Profile | None, url: str) -> Any:
    """Make upstream's model of a profile.

    Raises:
        UserError: if there is no such profile, or upstream's model does not take it.
    """
    if profile is None:
        raise UserError(
            f"{url}: {kind.removesuffix('s')} {pk} is missing; import its profile with `sotopia db import`"
        )
    try:
        return getattr(upstream_models(), CLASS_OF[kind])(**profile)
    except ValidationError as err:
        raise UserError(f"{url}: {kind.removesuffix('s')} {pk}: {first_reason(err)}; import it again") from err


def _load_backend_module() -> ModuleType:
    """Load upstream's backend module before its package, and put our backend in it."""
    package = importlib.util.find_spec("sotopia")
    folders = list(package.submodule_search_locations or []) if package else []
    path = next(
        (found for folder in folders if (found := Path(folder) / "database/storage_backend.py").exists()), None
    )
    if path is None:
        raise RuntimeError(
            "sotopia/database/storage_backend.py is not in the installed sotopia; expected sotopia 0.1.5"
        )
    spec = importlib.util.spec_from_file_location(BACKEND_MODULE, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[BACKEND_MODULE] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "_storage_backend") or not hasattr(module, "LocalJSONBackend"):
        raise RuntimeError(f"{BACKEND_MODULE} has changed; expected sotopia 0.1.5")
    module._storage_backend = _backend_class(module)()
    return module


def _backend_class(module: ModuleType) -> type:
    """Make the backend: a subclass of upstream's local one, since upstream asks for that type."""

    class StoreBackend(module.LocalJSONBackend):
        """Upstream's records, out of our store; what upstream would write itself is refused."""

        base_path = Path()

        def __init__(self) -> None:
            pass

        def get(self, model_class: type, pk: str) -> dict[str, Any]:
            """Read one record."""
            found = _get(model_class.__name__, pk)
            if found is None:
                raise module.NotFoundError(f"{model_class.__name__} with pk={pk} not found")
            return found

        def all(self, model_class: type) -> list[dict[str, Any]]:
            """Read all records of a class."""
            return _all(model_class.__name__)

        def find(self, model_class: type, filters: dict[str, Any]) -> list[dict[str, Any]]:
            """Read the records of a class whose fields are as asked for."""
            return [row for row in self.all(model_class) if all(row.get(k) == v for k, v in filters.items())]

        def save(self, model_class: type, pk: str, data: dict[str, Any]) -> None:
            """Refuse: only our own code writes, and whole."""
            raise RuntimeError(f"upstream wants to save a {model_class.__name__}; episodes are stored by sotopia_sdpo")

        def delete(self, model_class: type, pk: str) -> None:
            """Refuse as well."""
            raise RuntimeError(f"upstream wants to delete a {model_class.__name__}; use `sotopia db delete`")

        def generate_pk(self) -> str:
            """Give a new primary key."""
            return str(uuid.uuid4())

    return StoreBackend


def _get(class_name: str, pk: str) -> dict[str, Any] | None:
    """Read one record of upstream's class out of the served store."""
    kind = DOCUMENT_CLASSES.get(class_name)
    if kind is None or not _served:
        return None
    if kind != "episodes":
        return _served[0].get_profile(kind, pk)
    episode = _served[0].get_episode(pk)
    return episode.model_dump(mode="json") if episode else None


def _all(class_name: str) -> list[dict[str, Any]]:
    """Read all records of upstream's class out of the served store."""
    kind = DOCUMENT_CLASSES.get(class_name)
    if kind is None or not _served:
        return []
    if kind != "episodes":
        return list(_served[0].profiles(kind))
    # Upstream's model wants a reward for each agent, so what has none cannot be shown to it.
    return [episode.model_dump(mode="json") for episode in _served[0].episodes(status="scored")]
