"""Choose the checkpoint from which a training goes on: the last whole one.

A checkpoint is written file by file, the trainer's state last. One that was cut off (a full disk, a kill) lacks that
file, or has a file that ends too early, which every format used here shows. All ranks must choose the same one.
"""

import argparse
import json
import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open

from ..errors import OptionError


logger = logging.getLogger(__name__)

OPTION = "resume_from_checkpoint"
STATE = "trainer_state.json"
OPTIMIZERS = ("*optimizer.pt*", "optimizer.bin", "optimizer_*", "global_step*")
"""How the host calls the state of the optimizer: as it is, by FSDP whole and in parts, by DeepSpeed."""
NAME = re.compile(r"checkpoint-(\d+)")
NUMBERED_CPU = re.compile(r"cpu:\d+")
"""The device of a rank on CPUs, as accelerate calls it."""


def load_on_numbered_cpus() -> None:
    """Let `torch.load` put tensors on such a device, where several ranks on CPUs look for their optimizer's state."""
    torch.serialization.register_package(
        0,
        lambda _: None,
        lambda storage, location: storage if NUMBERED_CPU.fullmatch(location) else None,
    )


def asked_for(args: Any) -> Any:
    """Return what a config, or a list of flags (None: the command line's), says of the option.

    What the host has parsed does not tell: there it has put what it has found itself.
    """
    if isinstance(args, dict):
        return args.get(OPTION)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{OPTION}", f"--{OPTION.replace('_', '-')}")
    return getattr(parser.parse_known_args(args)[0], OPTION)


def choose(asked: Any, output_dir: str, found: str | None) -> str | None:
    """Return the checkpoint to go on from, or None to begin anew.

    Args:
        asked: `resume_from_checkpoint` of the config: None, true or false, or a folder.
        output_dir: of the training.
        found: the checkpoint that the host has chosen.

    Raises:
        OptionError: if it was asked for, and is not there or not whole.
    """
    word = str(asked).lower()
    if word in ("false", "no"):
        return None
    if asked is None and found is None:
        return None
    if asked is not None and word not in ("true", "yes"):
        if reason := why_not_whole(Path(asked)):
            raise OptionError(OPTION, f"{OPTION} {asked} is not a whole checkpoint: {reason}")
        return _told(Path(asked))
    for folder in _checkpoints(Path(output_dir)):
        if (reason := why_not_whole(folder)) is None:
            return _told(folder)
        logger.warning("%s is passed over, since it is not whole: %s", folder, reason)
    if asked is not None:
        raise OptionError(OPTION, f"{OPTION} is true, but {output_dir} has no whole checkpoint; leave it out to begin")
    return None


def agreed(choice: Callable[[], str | None]) -> str | None:
    """Return the checkpoint that this rank goes on from, after a look at what the others have chosen.

    Raises:
        OptionError: if this rank finds none where it must, or the ranks do not find the same.
    """
    chosen, error = None, None
    try:
        chosen = choice()
    except OptionError as err:
        error = err
    everywhere = [chosen or "none"]
    if dist.is_available() and dist.is_initialized():
        everywhere = [""] * dist.get_world_size()
        dist.all_gather_object(everywhere, chosen or "none")
    if len(set(everywhere)) > 1:
        found = ", ".join(f"rank {rank}: {folder}" for rank, folder in enumerate(everywhere))
        raise OptionError(
            OPTION,
            f"{OPTION}: the ranks do not find the same checkpoint ({found}); put output_dir on a disk that "
            "all machines share",
        )
    if error is not None:
        raise error
    return chosen


def check_deepspeed_state(folder: Path) -> None:
    """Refuse a checkpoint from which DeepSpeed cannot go on, which it would say as a bug.

    Raises:
        OptionError: with the ways that are left.
    """
    if not any(folder.glob("global_step*")):
        raise OptionError(
            OPTION,
            f"{folder} has no state of DeepSpeed (save_only_model leaves it out), without which it cannot go on; "
            "begin anew with overwrite_output_dir: true and save_only_model: false, or name the checkpoint as "
            "model_name_or_path of a training with another output_dir",
        )


def _told(folder: Path) -> str:
    """Return a checkpoint as text, and warn if the optimizer begins anew: the host says nothing of that."""
    if not any(path for pattern in OPTIMIZERS for path in folder.glob(pattern)):
        logger.warning(
            "%s has no state of the optimizer (save_only_model leaves it out): training goes on from its weights with"
            " a new one, so the result differs from that of a training that was not interrupted",
            folder,
        )
    return str(folder)


def _checkpoints(output: Path) -> list[Path]:
    """Return the checkpoints of a folder, the last first."""
    found = [path for path in output.glob("checkpoint-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: -int(path.name.partition("-")[2]))


def why_not_whole(folder: Path) -> str | None:
    """Return what a checkpoint lacks, or None."""
    if not folder.is_dir():
        return "there is no such folder"
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix() for path in files}
    indexed = {part for path in folder.glob("*.index.json") if _is_json(path) for part in _parts_of(path)}
    missing = ({STATE} | indexed) - names
    if missing:
        return f"{min(missing)} is missing"
    torn = [path for path in files if (check := CHECKS.get(path.suffix)) and not check(path)]
    return f"{torn[0].name} is damaged" if torn else None


def _parts_of(index: Path) -> set[str]:
    return set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _is_safetensors(path: Path) -> bool:
    """Return whether its length is what its header says."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def _is_torch_file(path: Path) -> bool:
    """Return whether it ends as a zip file does; one of PyTorch's old format, which is none, counts as whole."""
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    return path.stat().st_size > 0 and (not is_zip or zipfile.is_zipfile(path))


CHECKS: dict[str, Callable[[Path], bool]] = {
    ".json": _is_json,
    ".safetensors": _is_safetensors,
    **dict.fromkeys((".bin", ".pt", ".pth"), _is_torch_file),
}
"""How a file of a kind shows that it is whole."""
