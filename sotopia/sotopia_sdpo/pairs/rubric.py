"""What good means for an agent, and how an annotator is told of it.

A prompt is a frame, locate.txt or segment.txt, whose places a wording fills: that of SOTOPIA, where goal and
relationship count, or the one for any agent, which holds a rubric: a person's text, else outcomes.txt.
Invariant: nothing in a rubric can fill a place or end the block that it stands in.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo import prompts
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.outcomes import Outcome, range_of
from sotopia_sdpo.pairs.blocks import unended
from sotopia_sdpo.pairs.records import SCORES, DialogueRecord, LoggedSide, PlayedSide
from sotopia_sdpo.text import one_line


UNKNOWN = "an unknown outcome"
UNKNOWN_SCORE = "an unknown score"
MOST_SHOWN_NAME = 80


class Rubric(NamedTuple):
    """What the places of a frame are filled with."""

    wording: str
    """The file of the package that words them."""
    text: str = ""

    def fill(self, frame: str, values: Mapping[str, str]) -> str:
        """Fill a frame, a file of the package, with this and with the values of a record."""
        places = {name: f"{{{{{name}}}}}" for name in values} | prompts.parts(prompts.read(self.wording))
        return prompts.fill(prompts.fill(prompts.read(frame), places), {**values, "rubric": unended(self.text)})


SOTOPIA = Rubric("sotopia.txt")
ANY = "any.txt"


def load_rubric(path: Path | None) -> Rubric | None:
    """Read a person's rubric; None where there is none.

    Raises:
        UserError: if the file cannot be read, or says nothing.
    """
    if path is None:
        return None
    try:
        text = path.expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"{path}: cannot be read as a rubric ({err}); give a UTF-8 text file") from err
    if not text:
        raise UserError(f"{path}: the rubric is empty; say what is good and what is bad for the agent")
    return Rubric(ANY, text)


def rubric_for(record: DialogueRecord, chosen: Rubric | None) -> Rubric:
    """Return the rubric that was chosen, else the one that goes with a record."""
    default = Rubric(ANY, prompts.read("outcomes.txt")) if isinstance(record, LoggedSide) else SOTOPIA
    return chosen or default


def outcome_values(record: DialogueRecord, prefix: str = "") -> dict[str, str]:
    """Return what a wording may say of a record's outcomes, by place."""
    is_played = isinstance(record, PlayedSide)
    scores = {name: f"{getattr(record, name):g}" if is_played else UNKNOWN_SCORE for name in SCORES}
    outcomes = record.outcomes if isinstance(record, PlayedSide | LoggedSide) else []
    found = scores | {"outcomes": ", ".join(map(_written, outcomes)) or UNKNOWN}
    return {f"{prefix}{name}": text for name, text in found.items()}


def _written(outcome: Outcome) -> str:
    """Write an outcome: `reward 0.5 (0 to 1)`."""
    known = range_of(outcome.low, outcome.high)
    return unended(one_line(outcome.name, MOST_SHOWN_NAME)) + f" {outcome.value:g}" + (f" ({known})" if known else "")
