"""Derive the wording of agents' first turns from a file of dialogues, and compare a file with a template.

Comes in: the first human turns of a file in ShareGPT form, whose backgrounds are SOTOPIA's. Goes out: a template, or
how many of the turns a template renders to the letter. Invariant: what is derived renders the file's own first turns.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.play.dialogue import PARTS, Template, first_action_start
from sotopia_sdpo.step_files import SFT_DATA, read_list


SCENARIO = re.compile(r"^(?:.*:\n)?[ \t]*Scenario:", re.MULTILINE)
"""Where a background begins: with its first line, which may have a heading above it."""
PARTICIPANTS = re.compile(r"^[ \t]*Participants:[ \t]*(\S.*?) and (\S.*?)[ \t]*$", re.MULTILINE)
UNKNOWN = "Unknown"
TOKEN = re.compile(r"\s+|\S+")
MOST_CHECKED = 200
"""Dialogues of a file that are compared with a template at the start of a run."""


class FirstTurn(NamedTuple):
    """A first human turn, taken apart."""

    text: str
    names: tuple[str, str]
    """By position: the first one speaks first."""
    position: int
    """Whose turn it is: the one whose goal it tells."""
    background: slice
    action: int
    """Where the partner's first action begins; at the end where the agent speaks first."""

    @property
    def wording(self) -> str:
        """The text with placeholders in the place of what belongs to the session."""
        agent, partner = self.names[self.position], self.names[1 - self.position]
        marks = {agent: "{{agent}}", partner: "{{partner}}"}
        name = re.compile("|".join(re.escape(one) for one in sorted(marks, key=len, reverse=True)))
        around = self.text[: self.background.start], self.text[self.background.stop : self.action]
        before, after = (name.sub(lambda found: marks[found[0]], part) for part in around)
        return before + "{{background}}" + after + ("{{first_action}}" if self.position else "")

    def is_rendered_by(self, template: Template) -> bool:
        """Return whether a template renders it to the letter."""
        agent, partner = self.names[self.position], self.names[1 - self.position]
        values = agent, partner, self.text[self.background], self.text[self.action :]
        return template.fill(*values, self.position) == self.text


def first_turn_of(text: str) -> FirstTurn | None:
    """Take a first human turn apart; None where its background is not in SOTOPIA's form."""
    scenario, participants = SCENARIO.search(text), PARTICIPANTS.search(text)
    if not scenario or not participants:
        return None
    names = participants[1], participants[2]
    goals = [_last(rf"^[ \t]*{re.escape(name)}'s goal:(.*)$", text) for name in names]
    told = [goal is not None and goal[1].strip() != UNKNOWN for goal in goals]
    last = goals[1]
    if last is None or told[0] == told[1]:
        return None
    position, end = told.index(True), len(text[: last.end()].rstrip())
    try:
        action = first_action_start(text) if position else len(text)
    except ValueError:
        return None
    return FirstTurn(text, names, position, slice(scenario.start(), end), action) if action >= end else None


def _last(pattern: str, text: str) -> "re.Match[str] | None":
    return next(reversed([*re.finditer(pattern, text, re.MULTILINE)]), None)


def first_turns(path: Path, most: int | None = None) -> list[FirstTurn]:
    """Read the first human turns of a file that can be taken apart.

    Raises:
        UserError: if the file is no list of records.
    """
    texts = (_first_text(row) for row in read_list(path, SFT_DATA.writer)[:most])
    return [turn for text in texts if text and (turn := first_turn_of(text))]


def _first_text(row: Any) -> str:
    """Return the first human turn of a record; empty where it has none."""
    turns = row.get("conversations") if isinstance(row, dict) else None
    found = turns if isinstance(turns, list) else []
    humans = (turn for turn in found if isinstance(turn, dict) and turn.get("from") == "human")
    return str(next(humans, {}).get("value", "")).rstrip()


class Derived(NamedTuple):
    """A wording, and how well it fits."""

    text: str
    rendered: int
    """First turns that it renders to the letter."""
    read: int
    """First turns that could be taken apart."""


def derive(path: Path) -> Derived:
    """Derive the wording of a file.

    Raises:
        UserError: if its first turns cannot be taken apart, or have no wording in common.
    """
    turns = first_turns(path)
    if not turns:
        raise UserError(
            f"{path}: no first human turn has a background in SOTOPIA's form (Scenario, Participants, two goals); "
            "write the template by hand"
        )
    text = _merged([_usual(turn.wording for turn in turns if turn.position == place) for place in range(len(PARTS))])
    template = Template(text, str(path))
    rendered = sum(turn.is_rendered_by(template) for turn in turns)
    if 2 * rendered <= len(turns):
        raise UserError(
            f"{path}: the most frequent wording renders {rendered} of {len(turns)} first turns, expected more than "
            "half; the file mixes several wordings"
        )
    return Derived(template.text, rendered, len(turns))


def _usual(wordings: Iterable[str]) -> str | None:
    """Return the most frequent wording."""
    return next((text for text, _ in Counter(wordings).most_common(1)), None)


def _merged(wordings: Sequence[str | None]) -> str:
    """Return one text for both positions, with parts where they differ."""
    known = [text for text in wordings if text is not None]
    if len(known) == 1 or known[0] == known[1]:
        return known[0]
    tokens = [TOKEN.findall(text) for text in known]
    start = _common(*tokens)
    end = _common(*(one[start:][::-1] for one in tokens))
    differing = ["".join(one[start : len(one) - end]) for one in tokens]
    parts = [f"{{{{#{part}}}}}{text}{{{{/{part}}}}}" for part, text in zip(PARTS, differing, strict=True) if text]
    return "".join([*tokens[0][:start], *parts, *tokens[0][len(tokens[0]) - end :]])


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Count the tokens that two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(first, second, strict=False)))


def disagreement(path: Path, template: Template) -> str | None:
    """Return how a file of training data disagrees with what agents are prompted with; None where it does not.

    Raises:
        UserError: if the file is no list of records.
    """
    turns = first_turns(path, MOST_CHECKED)
    agreeing = sum(turn.is_rendered_by(template) for turn in turns)
    if 2 * agreeing >= len(turns):
        return None
    return (
        f"{path}: {len(turns) - agreeing} of {len(turns)} first turns are not what the prompt template {template} "
        f"renders, and agents should be prompted with what they were trained on; `sotopia template --from {path} "
        "--output FILE` makes a template of it for --prompt-template FILE"
    )


def write_template(source: Path, output: Path | None) -> None:
    """Write the wording of a file to another one, or print it.

    Raises:
        UserError: if there is none, or it cannot be written.
    """
    found = derive(source)
    if output is None:
        print(found.text)
    else:
        try:
            output.write_text(f"{found.text}\n", "utf-8")
        except OSError as err:
            raise UserError(f"{output}: cannot be written ({err.strerror}); give another place (--output)") from err
    where = f" -> {output}" if output else ""
    print(
        f"renders {found.rendered:,} of {found.read:,} first turns of {source} to the letter{where}", file=sys.stderr
    )
