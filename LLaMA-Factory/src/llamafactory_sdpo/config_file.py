"""Read a YAML config and its key=value overrides with OmegaConf, as the host does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from .errors import UserError, one_line


READ_ERRORS = (YAMLError, OmegaConfBaseException, OSError, TypeError, ValueError)
"""What OmegaConf raises for a file or an override that it cannot read."""


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
        config, given = OmegaConf.load(path), OmegaConf.from_cli(list(overrides))
        is_mapping = isinstance(config, DictConfig) and bool(config or given)
        values: Any = OmegaConf.to_container(OmegaConf.merge(config, given), resolve=resolve) if is_mapping else {}
    except READ_ERRORS as err:
        raise UserError(f"not a readable config: {one_line(err)}") from None
    if not is_mapping:
        raise UserError("not a readable config: it holds no key: value lines")
    return {str(key): value for key, value in values.items()}
