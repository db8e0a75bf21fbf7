"""Read a YAML config and its key=value overrides with OmegaConf, as the host does."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import UserError, one_line


READ_ERRORS = (yaml.YAMLError, OmegaConfBaseException, OSError, TypeError, ValueError, RecursionError)
"""What OmegaConf raises for a file or an override that it cannot read."""
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


def read_config(path: Path, overrides: Sequence[str] = (), *, resolve: bool = False) -> dict[str, Any]:
    """Return the keys of a config, those of the overrides in the place of its own.

    Args:
        path: the YAML file.
        overrides: key=value items; a dot in a key enters a mapping.
        resolve: fill in `${...}`, which the host leaves as it stands in a training config.

    Raises:
        UserError: if the file is not YAML or not a mapping, or an override cannot be read.
    """
    try:
        for text in (path.read_text("utf-8"), *(override.partition("=")[2] for override in overrides)):
            check_size(text)
        config, given = OmegaConf.load(path), OmegaConf.from_cli(list(overrides))
        is_mapping = isinstance(config, DictConfig) and bool(config or given)
        values: Any = OmegaConf.to_container(OmegaConf.merge(config, given), resolve=resolve) if is_mapping else {}
    except READ_ERRORS as err:
        raise UserError(f"not a readable config: {one_line(err)}") from None
    if not is_mapping:
        raise UserError("not a readable config: it holds no key: value lines")
    return {str(key): value for key, value in values.items()}
