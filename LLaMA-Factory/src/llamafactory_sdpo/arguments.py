"""The options that our stages add to the host's fine-tuning arguments, and checks of models and folders."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from .data.pairing import Scope, Unequal
from .errors import OptionError
from .stages import RULES, STAGES, Norm, stages_scoring


@dataclass
class SegmentArguments:
    """Options of the stages in `STAGES`; mixed into the host's FinetuningArguments."""

    segment_scope: Scope = field(
        default="segment",
        metadata={"help": "What a stage of the key segment scores: all of it, or its first turn (turn-level DPO)."},
    )
    dmpo_gamma: float = field(
        default=0.7,
        metadata={"help": "Discount of stage dmpo, in (0, 1]: turn t of T weighs (1 - gamma^(T-t)) / (1 - gamma^T)."},
    )
    turn_weights: str = field(
        default="stage",
        metadata={
            "help": "The weight in the loss of an agent turn that has no `weight` in the data: the stage's, or with "
            "`confidence` that times a factor which is larger for turns that the reference finds less likely.",
            "choices": ["stage", *RULES],
        },
    )
    loss_norm: Norm = field(
        default="none",
        metadata={
            "help": "By what the sum over a side's tokens is divided in the loss: nothing, its number of tokens "
            "(length-normalised DPO), or its number of turns, both weighted; then `pref_beta` wants to be larger."
        },
    )
    pair_order: Literal["random", "curriculum"] = field(
        default="random",
        metadata={
            "help": "The order of pairs: as `train_sampling_strategy` says, or in the first epoch short ones with a "
            "large gap between their sides first, and random ones later."
        },
    )
    overlong: Literal["shorten", "skip", "stop"] = field(
        default="shorten",
        metadata={
            "help": "A pair longer than `cutoff_len`: shorten its shared history at turn boundaries (a pair that is "
            "still too long, or of whole sessions, is skipped and counted), skip it, or stop."
        },
    )
    unequal_segments: Unequal = field(
        default="stop",
        metadata={
            "help": "Key segments with different numbers of agent turns: stop, train on them with a warning (as the "
            "paper's ablation of unequal segments does), or truncate the longer one."
        },
    )
    bad_pairs: Literal["stop", "skip"] = field(
        default="stop",
        metadata={"help": "A pair that cannot be trained on: stop with its reason, or skip and count it."},
    )
    drop_pairs: str | None = field(
        default=None,
        metadata={"help": "A file of flags out of the page of dpo/report.py: leave these pairs of `dataset` out."},
    )

    shared_history: bool = field(
        default=True,
        metadata={
            "help": "Encode what the two sides of a pair have in common once. Checked on the first batch; a model "
            "that cannot do it, or gives another result, encodes each side on its own."
        },
    )
    scored_logits_only: bool = field(
        default=True,
        metadata={"help": "Compute logits only where they predict a scored token, instead of everywhere."},
    )
    reference_once: bool = field(
        default=True,
        metadata={
            "help": "Compute the reference's log-probabilities in one pass before the first step and keep them on "
            "disk, instead of running the reference model in every step."
        },
    )

    def check_segment_options(self, stage: str | None) -> None:
        """Refuse values outside their choices, and options that the stage would not read.

        Args:
            stage: one of ours, or None for a stage of the host.

        Raises:
            ValueError: naming the option, the choices and what was found.
        """
        for name, kind in get_type_hints(SegmentArguments).items():
            choices, value = get_args(kind) if get_origin(kind) is Literal else (), getattr(self, name)
            if choices and value not in choices:
                raise ValueError(f"`{name}` is {value!r}, expected one of {', '.join(choices)}.")
            if kind is bool and not isinstance(value, bool):
                raise ValueError(f"`{name}` is {value!r}, expected true or false.")
        if not (isinstance(self.dmpo_gamma, float | int) and 0 < self.dmpo_gamma <= 1):
            raise ValueError(f"`dmpo_gamma` is {self.dmpo_gamma!r}, expected a number above 0 and at most 1.")
        if self.turn_weights not in ("stage", *RULES):
            raise ValueError(f"`turn_weights` is {self.turn_weights!r}, expected one of stage, {', '.join(RULES)}.")
        if stage is None:
            self._check_unread()
        if self.turn_weights in RULES and not self.reference_once:
            raise ValueError(
                f"`turn_weights: {self.turn_weights}` reads the reference's table, which `reference_once: false` "
                "leaves out."
            )
        if self.segment_scope == "turn" and (stage is None or STAGES[stage].scores != "segment"):
            raise ValueError(f"`segment_scope: turn` belongs to stage {' or '.join(stages_scoring('segment'))}.")

    def _check_unread(self) -> None:
        """Refuse what a stage of the host would not read."""
        if self.drop_pairs:
            raise ValueError(f"`drop_pairs` belongs to stage {' or '.join(STAGES)}, whose records are pairs.")
        for name, default in (("turn_weights", "stage"), ("loss_norm", "none"), ("pair_order", "random")):
            if (value := getattr(self, name)) != default:
                raise ValueError(f"`{name}: {value}` belongs to stage {' or '.join(STAGES)}.")


def check_order(strategy: str, is_unshuffled: bool, is_streamed: bool) -> None:
    """Refuse options that say another order of pairs than a curriculum.

    Raises:
        OptionError: naming the other one.
    """
    others = {
        f"train_sampling_strategy: {strategy}": strategy != "random",
        "disable_shuffling: true": is_unshuffled,
        "streaming: true": is_streamed,
    }
    for other, is_set in others.items():
        if is_set:
            raise OptionError("pair_order", f"pair_order: curriculum and {other} both say in which order; drop one")


class MissingModel(OptionError):
    """A model's folder that is not there."""


def check_model(option: str, model: str) -> None:
    """Refuse a model that is neither a folder nor can be a name of the hub.

    A name of the hub has one slash or none; a path below a folder that exists is meant to be one.

    Raises:
        MissingModel: naming the option.
    """
    path = Path(model)
    is_path = model.count("/") > 1 or model[0] in "./~" or ("/" in model and os.path.isdir(path.parts[0]))
    if is_path and not os.path.exists(path):
        raise MissingModel(
            option, f"{option} {model} does not exist; expected a model's folder, or its name on the hub"
        )


def check_folder(option: str, named: str | None) -> None:
    """Refuse a folder that is to be written and cannot be; None is none.

    Raises:
        OptionError: with what is in its way.
    """
    if not named:
        return
    folder = Path(named).expanduser().absolute()
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as err:
        raise OptionError(option, f"{option} {named}: {(err.strerror or str(err)).lower()}; name another") from None
    if not nearest.is_dir():
        raise OptionError(option, f"{option} {named} cannot be a folder, since {nearest} is a file; name another")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OptionError(option, f"{option} {named} cannot be written: {nearest} is not open to you; name another")
