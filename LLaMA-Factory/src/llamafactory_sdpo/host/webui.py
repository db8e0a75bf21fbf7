"""The host's board (`llamafactory-cli webui`) with our stages among its own."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..stages import STAGES


PREFERENCE_OPTIONS = ("pref_beta", "pref_ftx", "pref_loss")
"""What the board asks for under "RLHF configurations", and passes on for its own stages alone."""


def names_of_stages() -> dict[str, str]:
    """Return what the board shows -> the stage."""
    return {f"{stage.name.upper()} ({stage.help})": stage.name for stage in STAGES.values()}


def parse_train_args(host: Callable[..., dict[str, Any]], runner: Any, data: dict[Any, Any]) -> dict[str, Any]:
    """Stand in for the runner's `_parse_train_args`: of our stages, with the options of preferences.

    Args:
        host: that function.
        runner: the host's.
        data: the board's elements -> their values.
    """
    args = host(runner, data)
    if args["stage"] in STAGES:
        asked = {name: data[runner.manager.get_elem_by_id(f"train.{name}")] for name in PREFERENCE_OPTIONS}
        # What was typed as an extra argument wins.
        return {**asked, **args}
    return args


def find_our_commands() -> None:
    """Have the board start the `llamafactory-cli` of this environment, whether or not that is active."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
