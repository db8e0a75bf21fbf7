"""Run a training of any stage, so that what ends it midway is one line and what it saves can be used."""

import errno
import math
import os
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback

from ..data.sources import PRODUCERS
from ..errors import OptionError, TrainingFailed, UserError, one_line
from ..step.finite import failed, has_finite_weights
from .data import step_files_moved
from .models import reason
from .screen import short_screen
from .seams import seam


FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_DISK_WORDS = (
    *("os error 28", "os error 122", "os error 27", "No space left", "Disk quota exceeded", "File too large"),
    *("PytorchStreamWriter failed", "unexpected pos", "basic_ios::clear: iostream error"),
)
"""What libraries say of a full disk, or of a limit of files' sizes, without its number: safetensors, PyTorch."""

MISSING_FILE = re.compile(r"File (.+) not found\.")
"""The host's message for a dataset's file that is not there."""

MISSING_TARGETS = "Target modules"
"""How PEFT's message begins for a `lora_target` that the model does not have."""

NO_ROWS = "Cannot find "
"""How the host's message begins if no record of a dataset can be used; it is a RuntimeError."""

SET_UP = ("llamafactory.model.", "peft.", "llamafactory.data.")
"""Modules that put model and data together; their ValueErrors refuse options and data, such as modules to train that
the model lacks."""
LOADER = "llamafactory.model.loader"


class TargetCheck(TrainerCallback):
    """Refuses a `lora_target` or `additional_target` that the model lacks; PEFT passes over it."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Look for every target in the model, as PEFT does: by the end of a module's name."""
        names = [name for name, _ in model.named_modules()]
        for config in getattr(model, "peft_config", {}).values():
            targets = getattr(config, "target_modules", None) or ()
            for target in sorted(targets) if not isinstance(targets, str) else ():
                if not any(name == target or name.endswith(f".{target}") for name in names):
                    raise OptionError("lora_target", f"lora_target: the model has no module {target!r}")
            for target in getattr(config, "modules_to_save", None) or ():
                if not any(name.endswith(target) for name in names):
                    raise OptionError("additional_target", f"additional_target: the model has no module {target!r}")


class StopAtNan(TrainerCallback):
    """Stops a training whose weights or gradients are not numbers, before they are saved.

    For the host's stages, whose trainers leave no other place to look; ours look at every step (`step.finite`).
    """

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Look at the gradients' norm; under fp16 it may be infinite, and the step is then left out."""
        norm = float(logs.get("grad_norm", 0.0))
        if not args.fp16 and not math.isfinite(norm):
            raise failed(state.global_step, f"the gradients' norm is {norm}", args.output_dir, "the data")

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Look at the weights before a checkpoint."""
        if control.should_save:
            self.on_train_end(args, state, control, model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Look at the weights before the model is saved."""
        if not has_finite_weights(model):
            raise failed(state.global_step, "the weights are not numbers any more", args.output_dir, "the data")


_run_epoch: Any = seam(Trainer, "_run_epoch", "epoch", "train_dataloader")


def run_epoch(trainer: Any, *, epoch: int, train_dataloader: Any, **kwargs: Any) -> None:
    """Stand in for transformers' `Trainer._run_epoch`, which goes on from some checkpoints in another way.

    From one of the last step it trains a step more. From others it tells the epoch to a loader around the first one,
    which passes it on to no sampler but a random one where there are several ranks: so here it is told before.
    """
    if trainer.state.global_step >= trainer.state.max_steps:
        trainer.control.should_training_stop = True
        return
    if hasattr(train_dataloader, "set_epoch"):
        train_dataloader.set_epoch(epoch)
    _run_epoch(trainer, epoch=epoch, train_dataloader=train_dataloader, **kwargs)


def run_training(host: Callable[[dict[str, Any]], None], config: dict[str, Any]) -> None:
    """Stand in for the host's `_training_function`.

    Args:
        host: that function.
        config: its argument, `args` and `callbacks`.

    Raises:
        UserError: for an option that only the loaded model, or a package that is missing, refuses.
        TrainingFailed: if the loss is not a number or the disk is full.
    """
    config["callbacks"] += [TargetCheck(), StopAtNan()]
    output = _new_folder(config["args"])
    try:
        with step_files_moved(), short_screen():
            host(config)
    except Exception as err:
        error = err if isinstance(err, UserError) else in_one_line(err)
        if isinstance(error, UserError) and output:
            # It stays if anything is in it; another rank may have removed it.
            with suppress(OSError):
                output.rmdir()
        if error is None or error is err:
            raise
        raise error from None


def _new_folder(args: Any) -> Path | None:
    """Return the output folder of a config if it does not exist yet."""
    output = Path(str(args.get("output_dir"))) if isinstance(args, dict) and args.get("output_dir") else None
    return None if output is None or os.path.exists(output) else output


def in_one_line(err: Exception) -> UserError | TrainingFailed | None:
    """Return the one-line error for what is no bug, else None."""
    text = one_line(err)
    if is_full_disk(err):
        return TrainingFailed(
            f"the disk is full ({text[:200]}); free some space and go on with resume_from_checkpoint=true, "
            "which takes the last whole checkpoint"
        )
    if isinstance(err, ImportError | RuntimeError) and "pip install" in text:
        return UserError(text[:400])
    if isinstance(err, ValueError) and (found := MISSING_FILE.fullmatch(text)):
        hint = PRODUCERS.get(Path(found[1]).name, "put it there, or correct file_name in dataset_info.json")
        return UserError(f"{os.path.normpath(found[1])} does not exist; {hint}")
    if isinstance(err, ValueError) and text.startswith(MISSING_TARGETS):
        return OptionError("lora_target", f"lora_target: {text[:300]}")
    modules = _modules_of(err)
    if isinstance(err, ValueError) and modules[-1].startswith(SET_UP):
        return UserError(text[:300])
    if isinstance(err, RuntimeError) and text.startswith(NO_ROWS) and modules[-1].startswith(SET_UP):
        return UserError(text[:300])
    if isinstance(err, OSError | ValueError | SafetensorError) and LOADER in modules:
        return UserError(f"a model cannot be loaded: {reason(err)}")
    return None


def _modules_of(err: Exception) -> list[str]:
    """Return the names of the modules that an exception has passed through, the one that raised it last."""
    return ["", *(frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(err.__traceback__))]


def is_full_disk(err: BaseException | None) -> bool:
    """Return whether an exception, or one that led to it, says that the disk is full."""
    while err is not None:
        if getattr(err, "errno", None) in FULL_DISK or any(word in str(err) for word in FULL_DISK_WORDS):
            return True
        err = err.__cause__ or err.__context__
    return False
