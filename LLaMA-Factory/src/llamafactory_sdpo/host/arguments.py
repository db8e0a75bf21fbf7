"""The host's arguments, widened by our stages and their options: read, parsed and checked."""

import argparse
import difflib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from transformers import HfArgumentParser
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from ..arguments import SegmentArguments
from ..config_file import read_config
from ..errors import OptionError, UserError, one_line
from ..stages import AVERAGED_LOSSES, RULES, STAGES
from . import checkpoints
from .names import HostFinetuningArguments, host_parser, is_env_enabled
from .rows import check_rows
from .seams import seam, substituted
from .settings import check_merging, check_settings, check_training
from .values import checked
from .zero import SHARDED_WEIGHTS, zero_of


HOST_STAGES: tuple[str, ...] = get_args(get_type_hints(HostFinetuningArguments)["stage"])

PREFERENCE_LOSSES = ("sigmoid", "hinge", "ipo", "orpo", "simpo")
"""The values of `pref_loss` that are computed; the host names `kto_pair` too, which TRL removed."""

REFERENCE_FREE_LOSSES = ("orpo", "simpo")
"""Those that the host computes without a reference, and without the BCO term."""

REFUSALS = (ValueError, AssertionError, ImportError, TypeError)
"""What the host and transformers raise for options that they refuse, ImportError for those of a missing package."""

OF_A_MACHINE = ("tf32", "deepspeed", "fsdp", "ddp_", "torch_compile", "use_cpu", "optim")
"""Beginnings of training arguments that transformers refuses where the hardware or a package for them is not there."""

OF_RANKS = ("LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables by which accelerate takes a process for one of several; Slurm, MPI and Kubeflow set some of them."""

NOTHING_HELD_OUT = "eval_dataset be provided"
"""What the host says where something is evaluated and nothing is held out, whichever option asked for it."""

STAGE_HELP = "; ".join(
    ["Which stage will be performed in training", *(f"{stage.name}: {stage.help}" for stage in STAGES.values())]
)


@dataclass
class FinetuningArguments(SegmentArguments, HostFinetuningArguments):
    """The host's fine-tuning arguments with our stages and their options."""

    stage: str = field(default="sft", metadata={"help": f"{STAGE_HELP}.", "choices": [*HOST_STAGES, *STAGES]})
    # Checked below, since other stages do not read it.
    pref_loss: str = field(default="sigmoid", metadata={"help": "The loss of DPO.", "choices": [*PREFERENCE_LOSSES]})

    def __post_init__(self) -> None:
        if self.stage not in (*STAGES, *HOST_STAGES):
            close = difflib.get_close_matches(str(self.stage), STAGES, n=1)
            raise ValueError(f"`stage` is {self.stage!r}{f', did you mean {close[0]}' if close else ''}?")
        self.pair_stage = self.stage if self.stage in STAGES else None
        self.check_segment_options(self.pair_stage)
        if self.pair_stage is not None:
            if self.ld_alpha is not None:
                raise ValueError("`ld_alpha` is defined for one answer, not for turns; remove it.")
            self.stage = "dpo"
        # Megatron computes its losses itself.
        if self.stage == "dpo" and not is_env_enabled("USE_MCA"):
            self._check_preference_loss()
        super().__post_init__()

    def _check_preference_loss(self) -> None:
        """Refuse a loss that the host names and TRL no longer has, and a weight that it would not read."""
        if self.pref_loss not in PREFERENCE_LOSSES:
            expected = ", ".join(PREFERENCE_LOSSES)
            raise ValueError(f"`pref_loss` is {self.pref_loss!r}, expected one of {expected}.")
        if self.pref_loss != "orpo" and not self.pref_beta:
            raise ValueError("`pref_beta` is 0, with which nothing is compared; choose one above 0.")
        if self.pref_loss in REFERENCE_FREE_LOSSES and self.pref_bco_weight:
            raise ValueError(f"`pref_bco_weight` needs a reference, which `pref_loss: {self.pref_loss}` has not.")
        if self.pref_loss in AVERAGED_LOSSES and self.loss_norm != "none":
            raise ValueError(
                f"`loss_norm: {self.loss_norm}` goes with sums, and `pref_loss: {self.pref_loss}` is of averages."
            )
        if self.pref_loss in REFERENCE_FREE_LOSSES and self.turn_weights in RULES:
            raise ValueError(
                f"`turn_weights: {self.turn_weights}` needs a reference, which `pref_loss: {self.pref_loss}` has not."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments for logs, with the stage as the user typed it."""
        return {**super().to_dict(), "stage": self.pair_stage or self.stage}


def read_args(argv: list[str]) -> Any:
    """Read a config file and its overrides, or a list of flags, as the host does, which knows a config by its ending.

    Raises:
        UserError: if the config cannot be read.
    """
    if not argv or argv[0].startswith("-"):
        return argv
    if not os.path.isfile(argv[0]):
        raise UserError("no such config file")
    args = read_config(Path(argv[0]), argv[1:])
    # YAML reads a bare `no` as False, in a file and in an override.
    return {key: "no" if value is False and key.endswith("_strategy") else value for key, value in args.items()}


def parse_args(host: Callable[[Any], tuple[Any, ...]], args: Any = None) -> tuple[Any, ...]:
    """Parse and check the arguments of a training.

    Args:
        host: the host's own parser.
        args: a config, a list of flags, or None for those of the command line.

    Raises:
        UserError: if the host or we refuse them.
    """
    try:
        if isinstance(args, dict):
            args = checked_keys(args)
        parsed = host(args)
    except REFUSALS as err:
        raise refusal(err, args) from None
    model_args, data_args, training_args, finetuning_args, _ = parsed
    check_settings(*parsed[:4])
    check_training(model_args, data_args, training_args, finetuning_args)
    check_merging(model_args, training_args, finetuning_args, is_deepspeed_zero3_enabled())
    if training_args.do_train:
        asked, found = checkpoints.asked_for(args), training_args.resume_from_checkpoint
        chosen = checkpoints.agreed(lambda: checkpoints.choose(asked, training_args.output_dir, found))
        if chosen and training_args.deepspeed:
            checkpoints.check_deepspeed_state(Path(chosen))
        training_args.resume_from_checkpoint = chosen
    # Reads the model's files, so after what takes no time.
    check_rows(model_args, data_args, finetuning_args)
    return parsed


def refusal(err: Exception, args: Any) -> UserError:
    """Return the host's refusal as ours, with the option that it names in backticks, if that was given."""
    if NOTHING_HELD_OUT in str(err):
        return OptionError(
            "val_size",
            "there is nothing to evaluate on; set val_size or eval_dataset, or do_eval: false and eval_strategy: no",
        )
    named = [key for key in re.findall(r"`(\w+)`", str(err)) if isinstance(args, dict) and key in args]
    if isinstance(err, UserError):
        return err
    return OptionError(named[0], one_line(err)) if named else UserError(one_line(err))


def parse_anywhere(args: Any) -> tuple[Any, ...]:
    """Parse and check the arguments of a training as it does, in a process that must not touch GPUs or process groups.

    Returns:
        What `parse_args` does; the training arguments are those of one process on a CPU.

    Raises:
        UserError: if they are refused.
    """
    given = checked_keys(args if isinstance(args, dict) else _given_by(args))
    anywhere = {key: value for key, value in given.items() if not key.startswith(OF_A_MACHINE)} | {"use_cpu": True}
    # Whether this machine can compute in bf16 is not asked.
    with _alone(), substituted(host_parser, is_torch_bf16_gpu_available=lambda: True):
        parsed = parse_args(seam(host_parser, "get_train_args", "args"), anywhere)
    model_args, _, training_args, finetuning_args, _ = parsed
    if given.get("deepspeed") and model_args.adapter_name_or_path:
        is_zero3 = zero_of(given["deepspeed"]).get("stage") == SHARDED_WEIGHTS
        check_merging(model_args, training_args, finetuning_args, is_zero3)
    if given.get("deepspeed") and training_args.resume_from_checkpoint:
        checkpoints.check_deepspeed_state(Path(training_args.resume_from_checkpoint))
    return parsed


@contextmanager
def _alone() -> Iterator[None]:
    """Take away what makes this process begin a group with the launchers of other machines, at the ranks' port."""
    kept = {name: os.environ.pop(name) for name in OF_RANKS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _given_by(flags: list[str]) -> dict[str, Any]:
    """Return the options that a list of flags gives, by name.

    Raises:
        UserError: if there are others among them.
    """
    parser = HfArgumentParser(seam(host_parser, "_TRAIN_ARGS"))
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    given, others = parser.parse_known_args(flags)
    if others and not is_env_enabled("ALLOW_EXTRA_ARGS"):
        raise UserError(f"{' '.join(others)}: no such flags; llamafactory-cli train --help lists them")
    return vars(given)


def check_keys(args: dict[str, Any], kinds: str = "_TRAIN_ARGS") -> None:
    """Refuse keys of a config that nothing reads.

    Args:
        args: the config.
        kinds: the host's list of argument classes that do read them.

    Raises:
        UserError: naming the first such key and, if there is one, the key that was probably meant.
    """
    known = {item.name for kind in seam(host_parser, kinds) for item in fields(kind) if item.init}
    for key in args:
        if key not in known and not is_env_enabled("ALLOW_EXTRA_ARGS"):
            close = difflib.get_close_matches(key, known, n=1)
            raise OptionError(key, f"unknown key '{key}'{f'; did you mean {close[0]}?' if close else ''}")


def checked_keys(args: dict[str, Any], kinds: str = "_TRAIN_ARGS") -> dict[str, Any]:
    """Return a config after a check of its keys and of the types of its values.

    Raises:
        UserError: naming the first key that is wrong.
    """
    check_keys(args, kinds)
    return checked(args, seam(host_parser, kinds))
