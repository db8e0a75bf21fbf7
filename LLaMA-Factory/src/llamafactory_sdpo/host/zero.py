"""What a config of DeepSpeed says of ZeRO, read where DeepSpeed is not running.

Comes in: the option `deepspeed`, a file or the config itself. Goes out: its `zero_optimization`, {} for none.
"""

import json
from pathlib import Path
from typing import Any

from ..errors import OptionError, kind, one_line


SHARDED_WEIGHTS = 3
"""The stage of ZeRO that shards the weights."""


def zero_of(given: Any) -> dict[str, Any]:
    """Return what a config of DeepSpeed says of ZeRO.

    Raises:
        OptionError: if it cannot be read.
    """
    if not given:
        return {}
    config = given if isinstance(given, dict) else _read(str(given))
    found = config.get("zero_optimization", {})
    return found if isinstance(found, dict) else {}


def _read(file: str) -> dict[str, Any]:
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise OptionError("deepspeed", f"deepspeed {file} cannot be read: {one_line(err)}") from None
    if not isinstance(config, dict):
        raise OptionError("deepspeed", f"deepspeed {file} is {kind(config)}, expected a JSON object")
    return config
