"""The methods that are compared, a row each, and what they are trained on.

To add one, add it here; a step that makes its data is one of `comparison.Comparison`.
"""

from typing import NamedTuple

from sotopia_sdpo.loop import tuning
from sotopia_sdpo.loop.places import RUNS
from sotopia_sdpo.step_files import ETO_PAIRS, POSITIVES, SEGMENT_PAIRS, SFT_DATA


LENGTHS = {"3": "of length 3", "rest": "to the end"}


class Method(NamedTuple):
    """How an arm is trained."""

    options: tuple[str, ...]
    data: str
    folder: str = ""
    """Where the data is, in the run folder."""
    is_sft: bool = False
    knob: tuning.Knob = tuning.BETA
    """What is tuned after the learning rate."""
    is_planted: bool = False
    """Whether it is SFT once more, from the base, as a check: nothing is tuned, and nothing should be found."""


def on_segments(*options: str, folder: str = "") -> Method:
    """Return the method that trains SDPO on pairs that were cut."""
    return Method(("stage=sdpo", *options, "dataset=preference_data"), SEGMENT_PAIRS.name, folder)


METHODS = {
    "preferred_sft": Method(("stage=sft", "dataset=positive_data"), POSITIVES.name, is_sft=True, knob=tuning.EPOCHS),
    "dpo": on_segments("segment_scope=turn"),  # segments of length 1
    "eto": Method(("stage=eto", "dataset=eto_data"), ETO_PAIRS.name),
    "dmpo": Method(("stage=dmpo", "dataset=eto_data"), ETO_PAIRS.name, knob=tuning.GAMMA),
    "sdpo": on_segments(),
    "sdpo_3": on_segments(folder="3"),
    "sdpo_rest": on_segments(folder="rest"),
    "sft_again": Method(("stage=sft", "dataset=sft_data"), SFT_DATA.name, is_sft=True, is_planted=True),
}
FLAGS = {
    "--tune": {
        "TUNE": "yes",
        "RUN": f"{RUNS}/league",
        "NEG_TRIALS": "3",
        "NEG_OPTIONS": "--max-per-role 15",
        "HELD_OUT": "40",
    },
    **{f"--{name}": {name.upper(): "yes"} for name in ("csv", "latex", "figure")},
}
