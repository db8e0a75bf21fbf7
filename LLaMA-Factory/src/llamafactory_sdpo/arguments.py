"""The options that our stages add to the host's fine-tuning arguments, and the check of a model's name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args, get_type_hints

from .data.pairing import Scope, Unequal
from .errors import OptionError
from .stages import STAGES, stages_scoring


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
            choices, value = get_args(kind), getattr(self, name)
            if choices and value not in choices:
                raise ValueError(f"`{name}` is {value!r}, expected one of {', '.join(choices)}.")
            if kind is bool and not isinstance(value, bool):
                raise ValueError(f"`{name}` is {value!r}, expected true or false.")
        if not (isinstance(self.dmpo_gamma, float | int) and 0 < self.dmpo_gamma <= 1):
            raise ValueError(f"`dmpo_gamma` is {self.dmpo_gamma!r}, expected a number above 0 and at most 1.")
        if self.segment_scope == "turn" and (stage is None or STAGES[stage].scores != "segment"):
            raise ValueError(f"`segment_scope: turn` belongs to stage {' or '.join(stages_scoring('segment'))}.")


class MissingModel(OptionError):
    """A model's folder that is not there."""


def check_model(option: str, model: str) -> None:
    """Refuse a model that is neither a folder nor can be a name of the hub.

    A name of the hub has one slash or none; a path below a folder that exists is meant to be one.

    Raises:
        MissingModel: naming the option.
    """
    path = Path(model)
    is_path = model.count("/") > 1 or model[0] in "./~" or ("/" in model and Path(path.parts[0]).is_dir())
    if is_path and not path.exists():
        raise MissingModel(
            option, f"{option} {model} does not exist; expected a model's folder, or its name on the hub"
        )
