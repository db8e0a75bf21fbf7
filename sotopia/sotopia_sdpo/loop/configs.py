"""What the training side's configs say, as far as the loop has to know it.

Comes in: a YAML file. Goes out: its keys. Invariant: a file that would end the process that loads it, or fill its
memory, is looked at no further; the training side says what is wrong with it.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException


READ_ERRORS = (yaml.YAMLError, OmegaConfBaseException, OSError, TypeError, ValueError, RecursionError)
MOST_LEVELS = 50
MOST_NODES = 100_000
"""Each alias counted as all that it stands for."""


def check_size(text: str) -> None:
    """Look at a YAML text before it is loaded: deep ones end the process, and small ones can stand for gigabytes.

    Raises:
        ValueError: if it is too large. What is no YAML is left to its reader.
    """
    nodes = 0
    begun: list[tuple[str | None, int]] = []
    sizes: dict[str | None, int] = {}
    with suppress(yaml.YAMLError):
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                nodes += sizes.get(event.anchor, 1)
            elif isinstance(event, yaml.ScalarEvent):
                nodes += 1
                sizes[event.anchor] = 1
            elif isinstance(event, yaml.CollectionStartEvent):
                # Until it ends, an alias of it would have no end.
                sizes[event.anchor] = MOST_NODES
                begun.append((event.anchor, nodes))
                nodes += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = begun.pop()
                sizes[anchor] = nodes - before
            if len(begun) > MOST_LEVELS or nodes > MOST_NODES:
                raise ValueError(f"more than {MOST_LEVELS} levels or {MOST_NODES} values")


def read_config(path: Path) -> dict[str, Any]:
    """Return what a config says; whoever uses it says what is wrong with it."""
    try:
        check_size(path.read_text("utf-8"))
        found: Any = OmegaConf.to_container(OmegaConf.load(path))
    except READ_ERRORS:
        return {}
    return found if isinstance(found, dict) else {}
