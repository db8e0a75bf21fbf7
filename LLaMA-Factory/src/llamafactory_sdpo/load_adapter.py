"""Load a LoRA adapter into servers of `bash inference.sh` that run, which were started with vllm_load_adapters=true.

    python -m llamafactory_sdpo.load_adapter NAME ADAPTER[,ADAPTER...] URL[,URL...]

ADAPTER is a folder; commas stack adapters, each trained on top of those before it. URLs are as `inference.sh` prints
them, one for each replica. Invariant: a name stands for one adapter as long as a server runs, since its prefix cache
knows adapters by name: an adapter that is trained anew wants another one.
"""

import argparse
import hashlib
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import UserError, one_line, run_at_edge
from .inference import STATE
from .serving import adapters
from .serving.asking import FAILURES, open_url
from .serving.config import KEY_VARIABLE


CLIENTS_KEY = "CUSTOM_API_KEY"
"""The variable by which `sotopia` sends a key."""
TIMEOUT_S = 600
NOT_FOUND = 404


def main() -> int:
    """Load an adapter."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.load_adapter", description=__doc__.split("\n")[0])
    parser.add_argument("name", metavar="NAME", help="what clients call it")
    parser.add_argument("stack", metavar="ADAPTER[,ADAPTER...]", help="a folder, or a stack of them")
    parser.add_argument("urls", metavar="URL[,URL...]", help="of the servers, as inference.sh prints them")
    given = parser.parse_args()
    return run_at_edge(lambda: load(given.name, given.stack.split(","), given.urls.split(",")))


def load(name: str, stack: list[str], urls: list[str]) -> int:
    """Load a stack of adapters as one into every server; one that has it already is left alone.

    Raises:
        UserError: if an adapter is none, or a server refuses it or has another one of that name.
    """
    folders = tuple(str(Path(folder).expanduser().absolute()) for folder in stack)
    for folder in folders:
        adapters.read_config(folder)
    hosts = list(map(_address, urls))
    # By its folders and not by its name, so that another stack of that name is seen to be another.
    digest = hashlib.sha256("\n".join(folders).encode()).hexdigest()[:16]
    path = adapters.stack(folders, STATE / str(urlsplit(hosts[0]).port) / "stacks" / digest)
    for url in hosts:
        served = _models(url)
        if served.get(name, path) != path:
            raise UserError(f"{url} serves {served[name]} as {name}; take another name")
        if name not in served:
            _ask(f"{url}/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
            print(f"{url} serves {name}")
    return 0


def _address(url: str) -> str:
    """Return the address of a server without /v1."""
    base = url.strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(base)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise UserError(f"{url!r} is no address of a server, expected http://HOST:PORT/v1/")
    return base


def _models(url: str) -> dict[str, Any]:
    """Return the names that a server knows -> the folder of each."""
    found = _ask(f"{url}/v1/models")
    models = found.get("data") if isinstance(found, dict) else None
    if not isinstance(models, list) or not all(isinstance(model, dict) and "id" in model for model in models):
        raise UserError(f"{url}/v1/models is no list of models; expected a server of inference.sh")
    return {model["id"]: model.get("root") for model in models}


def _ask(url: str, body: dict[str, str] | None = None) -> Any:
    """Return what a server answers, read as JSON where it is."""
    key = os.environ.get(KEY_VARIABLE) or os.environ.get(CLIENTS_KEY)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    try:
        with open_url(request, TIMEOUT_S) as response:
            text = response.read().decode(errors="replace")
        return text if body else json.loads(text)
    except urllib.error.HTTPError as err:
        if err.code == NOT_FOUND and body:
            raise UserError(f"{url}: no such address; start the server with vllm_load_adapters=true") from None
        raise UserError(f"{url}: status {err.code}: {err.read()[:300].decode(errors='replace')}") from None
    except FAILURES as err:
        raise UserError(f"{url}: {one_line(err)[:200]}; is the server there?") from None


if __name__ == "__main__":
    sys.exit(main())
