"""Read the model names that users type: what is called, where, and what the run is called after.

`custom/NAME@http://HOST:PORT/v1/` is one server, `custom/NAME@URL1,URL2` several for one model, anything else is
litellm's. A plain OpenAI name goes straight to OPENAI_BASE_URL where that is set.
Invariant: a spec holds no secret, since its name becomes part of tags, records and messages.
"""

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from sotopia_sdpo.errors import UserError


CUSTOM = "custom/"
CUSTOM_KEY = "CUSTOM_API_KEY"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_URL = "OPENAI_BASE_URL"
OPENAI_PREFIX = "openai/"
NO_KEY = "EMPTY"


class ModelSpec(NamedTuple):
    """A model and where it answers."""

    typed: str
    """As given on the command line."""
    api_name: str
    """What the server, or litellm, knows it by."""
    endpoints: tuple[str, ...] = ()
    """Base URLs without a slash at the end; empty where litellm finds the way."""
    key_variable: str = OPENAI_KEY

    @property
    def name(self) -> str:
        """What tags and episodes call it: as typed, but without the addresses where there are several."""
        return CUSTOM + self.api_name if len(self.endpoints) > 1 else self.typed

    @property
    def is_custom(self) -> bool:
        """Return whether it is a local server, which needs a limit on answers and has no price."""
        return self.typed.startswith(CUSTOM)

    @property
    def key(self) -> str:
        """The key to send, from the environment at the moment of the call."""
        return os.environ.get(self.key_variable) or NO_KEY


def parse_model(typed: str) -> ModelSpec:
    """Read one model name.

    Raises:
        UserError: if it is a `custom/` name without a usable address.
    """
    if not typed.strip():
        raise UserError("the model name is empty; give a litellm name or custom/NAME@http://HOST:PORT/v1/")
    if typed.startswith(CUSTOM):
        name, at, addresses = typed.removeprefix(CUSTOM).partition("@")
        if not at or not name:
            raise UserError(f"{typed.split('@')[0]}: no address; expected {CUSTOM}NAME@http://HOST:PORT/v1/")
        return ModelSpec(typed, name, tuple(_address(name, url) for url in addresses.split(",")), CUSTOM_KEY)
    base = os.environ.get(OPENAI_URL, "")
    plain = typed.removeprefix(OPENAI_PREFIX)
    if base and "/" not in plain:
        return ModelSpec(typed, plain, (_address(OPENAI_URL, base),))
    return ModelSpec(typed, typed)


def split_models(typed: str) -> list[str]:
    """Return the names in a list with commas; the addresses of one model have commas between them too."""
    names: list[str] = []
    for part in typed.split(","):
        if names and part.strip().startswith(("http://", "https://")):
            names[-1] += f",{part}"
        else:
            names.append(part.strip() if "," in typed else part)
    return names


def name_of(typed: str) -> str:
    """Return what a run is called after, for a name that need not be reachable (`custom/NAME` alone is fine here)."""
    if typed.startswith(CUSTOM) and "@" not in typed:
        return typed
    return parse_model(typed).name


def without_address(name: str) -> str:
    """Return a name without where the model was served, which may change from one run to the next."""
    return name.split("@")[0]


def short_name(name: str) -> str:
    """Return a model's name in short, as fits a table or a file name."""
    return without_address(name).rstrip("/").split("/")[-1]


def _address(name: str, url: str) -> str:
    """Check one base URL and take the slash off its end."""
    try:
        parts = urlsplit(url.strip())
        parts.port  # noqa: B018 (raises where it is none)
    except ValueError:
        # Not shown: where it cannot be taken apart, a key in it cannot be told from the rest.
        raise UserError(f"{name}: its address cannot be read; expected http://HOST:PORT/v1/") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(f"{name}: the address of {parts.hostname} holds a key; put it into {CUSTOM_KEY} instead")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{name}: {url!r} is not an address; expected http://HOST:PORT/v1/")
    return url.strip().rstrip("/")
