"""Keep secrets off command lines, where all users of a machine see them.

A command that was given one starts anew without it, and hands it on to itself, or to the ranks that it starts, in the
environment, which its own user alone can read.
"""

import json
import os
import re
import sys
from collections.abc import Sequence


VARIABLE = "LLAMAFACTORY_SDPO_HIDDEN"
"""The variable that holds the arguments which are not on the command line, as a JSON list."""

NAME = r"(?:[\w.-]+[._-])?(?:token|key|secret|password)"
SECRET = re.compile(rf"({NAME})(=.*)?", re.DOTALL)
"""A name that says that its value is a secret, with or without that: `hf_hub_token=…`, `api-key`, `a.b.api_key=…`."""

MAPPING = re.compile(rf"""\s*[{{[](?:.*[{{,])?\s*["']?{NAME}["']?\s*:.*""", re.DOTALL)
"""A value, as JSON or YAML, that has such a name anywhere: `vllm_config={"api_key": …}`."""

VARIABLES = {"api_key": "API_KEY", "hf_hub_token": "HF_TOKEN", "hub_token": "HF_TOKEN"}
"""Where to give a secret instead; others belong into a config that its user alone can read."""


def name_of(item: str) -> str | None:
    """Return the name of the secret that an argument gives, as key=value or as a flag; None for all others."""
    text = item.removeprefix("--")
    name, equals, value = text.partition("=")
    if equals and MAPPING.fullmatch(value):
        return name.replace("-", "_")
    found = SECRET.fullmatch(text)
    is_given = found is not None and (item.startswith("--") or found[2] is not None)
    return found[1].replace("-", "_") if found and is_given else None


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command line without its secrets, and those, a flag with its value behind it."""
    rest: list[str] = []
    secrets: list[str] = []
    is_value = False
    for item, following in zip(argv, [*argv[1:], ""], strict=True):
        is_given = not is_value and (
            name_of(item) is not None or (item.startswith("--") and MAPPING.fullmatch(following) is not None)
        )
        (secrets if is_given or is_value else rest).append(item)
        is_value = is_given and "=" not in item
    return rest, secrets


def whole(argv: Sequence[str], module: str) -> list[str]:
    """Return a command line with the secrets that were handed on; with one on it, this process starts anew.

    Args:
        argv: the arguments.
        module: that Python runs with them.
    """
    rest, secrets = split(argv)
    handed_on = json.loads(os.environ.pop(VARIABLE, "[]"))
    if not secrets:
        return [*argv, *handed_on]
    for name in sorted({name for item in secrets if (name := name_of(item))}):
        instead = f"set {VARIABLES[name]}" if name in VARIABLES else "write it into a config that only you can read"
        print(f"{name} on the command line can be seen by others (ps, history); {instead} instead", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", module, *rest]
    os.execve(sys.executable, command, os.environ | handing_on([*handed_on, *secrets]))


def handing_on(secrets: Sequence[str]) -> dict[str, str]:
    """Return the variable that hands secrets on to a process."""
    return {VARIABLE: json.dumps(list(secrets))} if secrets else {}
