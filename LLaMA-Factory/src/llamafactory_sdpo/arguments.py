"""The options that our stages add to the host's fine-tuning arguments."""

from dataclasses import dataclass, field
from typing import Literal, get_args, get_type_hints

from .pairs import Stage


STAGES: tuple[str, ...] = get_args(Stage)


@dataclass
class SegmentArguments:
    """Options of the stages sdpo, eto and dmpo; mixed into the host's FinetuningArguments."""

    segment_scope: Literal["segment", "turn"] = field(
        default="segment",
        metadata={"help": "What stage sdpo scores: the key segment, or its first agent turn alone (turn-level DPO)."},
    )
    dmpo_gamma: float = field(
        default=0.7,
        metadata={"help": "Discount of stage dmpo, in (0, 1]: turn t of T weighs (1 - gamma^(T-t)) / (1 - gamma^T)."},
    )
    overlong: Literal["shorten", "skip", "stop"] = field(
        default="shorten",
        metadata={
            "help": "A pair longer than `cutoff_len`: shorten its shared history at turn boundaries (sdpo; a pair "
            "that is still too long, or a whole session, is skipped and counted), skip it, or stop."
        },
    )
    unequal_segments: Literal["stop", "warn", "truncate"] = field(
        default="stop",
        metadata={
            "help": "Segments with different numbers of agent turns under stage sdpo: stop, train on them with a "
            "warning, or truncate the longer one."
        },
    )
    bad_pairs: Literal["stop", "skip"] = field(
        default="stop",
        metadata={"help": "A pair that cannot be trained on: stop with its reason, or skip and count it."},
    )

    shared_history: bool = field(
        default=True,
        metadata={
            "help": "Encode what the two sides of a pair have in common once. Checked on the first batch; where the "
            "model cannot do it, or comes to another result, each side is encoded on its own."
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
        if self.segment_scope == "turn" and stage != "sdpo":
            raise ValueError("`segment_scope: turn` belongs to stage sdpo.")
