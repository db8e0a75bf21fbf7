"""Annotate sessions by the rules of the scripted world: which turn hurt, and where the better session gets ahead.

Comes in: a request in one of two forms. Goes out: the right answer, always a valid one.
- locate: a <dialogue>. The answer is the agent's costliest turn, the earliest of equals. Cost of an act, the first
  that holds: 6 rude again without an apology (it ends the talk), 4 rude, 3 accepting a greedy offer, 3 leaving
  without a deal (0 if the other was rude that often), 3 a greedy offer, 2 a fair offer before asking, 2 declining an
  offer that trust carries, 1 a concession, 0 anything else.
- segment: a <history>, and from the first difference on a <first> (worse) and a <second> (better) session. The answer
  starts there and ends, both included, at the first agent's turn after which, once the partner has answered it, the
  second has at least half of the lead that it has in the end: in goal, or in relationship where it has none in goal.
  If it is never ahead, at the agent's second turn from there, or its only one.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from sotopia_sdpo.play.actions import Action, from_json
from sotopia_sdpo.simulated import acts
from sotopia_sdpo.simulated.replies import ChatRequest, hear, opening_of, seat_of
from sotopia_sdpo.simulated.rules import RUDE_LIMIT, Event, is_taken, scores, stand


INSTRUCTIONS = re.compile(r"<instructions>(.*?)</instructions>", re.DOTALL)
# Inside these blocks "<" is escaped, so one that is only spoken of, or quoted, is not taken for a block.
BLOCK = re.compile(r"<(dialogue|history|first|second)>\s*(\{[^<]*)</\1>")
SEGMENT_WORDS = ("start_index", "end_index")
FALLBACK_TURNS = 2
"""The agent's turns in a segment where the better session never gets ahead."""
PREFACE = "By the rules of the simulation"


class BlockLine(NamedTuple):
    """One line of a block."""

    number: int
    """Its index in the conversations."""
    is_agent: bool
    act: str


class AnnotationJob(NamedTuple):
    """What is to be annotated."""

    own: int
    """Where the agent sits."""
    opening: tuple[Event, ...]
    """What the partner did before the first line, where the agent speaks second."""
    turns: tuple[BlockLine, ...]
    """The dialogue, or the better session, history included."""
    worse: tuple[BlockLine, ...] = ()
    """The worse session, history included."""
    start: int | None = None
    """The first differing index; none where a turn is to be located."""

    @property
    def agent_indices(self) -> list[int]:
        """The agent's turns."""
        return [turn.number for turn in self.turns if turn.is_agent]

    def events(self, turns: Sequence[BlockLine]) -> list[Event]:
        """Return a session as the rules see it."""
        return [*self.opening, *((self.own if turn.is_agent else 1 - self.own, turn.act) for turn in turns)]


class Charge(NamedTuple):
    """What an act cost its side."""

    cost: int
    why: str


def job_of(request: ChatRequest) -> AnnotationJob | None:
    """Return what a request asks to annotate; None if it asks for something else.

    Raises:
        ValueError: if it is in the form of such a request, but a block is not; the text says what is wrong.
    """
    text = request.text
    instructions = INSTRUCTIONS.search(text)
    # A correction that quotes a block stands behind the block itself, so the first of a name counts.
    blocks = dict(reversed(BLOCK.findall(text)))
    is_segment = "second" in blocks and all(word in text for word in SEGMENT_WORDS)
    if instructions is None or not (is_segment or "dialogue" in blocks):
        return None
    seat = seat_of(instructions[1])
    own = seat.own if seat else 0
    opening = tuple(opening_of(instructions[1], own))
    if not is_segment:
        return AnnotationJob(own, opening, _turns(blocks, "dialogue"))
    history, first = _turns(blocks, "history"), _turns(blocks, "first")
    second = _turns(blocks, "second")
    return AnnotationJob(own, opening, (*history, *second), (*history, *first), second[0].number)


def annotate(job: AnnotationJob) -> dict[str, Any]:
    """Return the right answer."""
    return _locate(job) if job.start is None else _segment(job, job.start)


def _turns(blocks: dict[str, str], name: str) -> tuple[BlockLine, ...]:
    """Read the lines of a block; one that must hold an agent's turn is checked for it."""
    # Not splitlines(): JSON leaves other line ends, such as U+2028, in its texts.
    found = tuple(_turn(line, name) for line in blocks.get(name, "").split("\n") if line.strip())
    if name in ("dialogue", "second") and not any(turn.is_agent for turn in found):
        raise ValueError(f"<{name}>: expected a turn of the agent, found none")
    return found


def _turn(line: str, name: str) -> BlockLine:
    """Read one line; a turn in no form at all is heard as words."""
    try:
        found = json.loads(line)
        index, is_agent = int(found["index"]), {"agent": True, "partner": False, "tool": False}[found["who"]]
    except (ValueError, KeyError, TypeError) as err:
        raise ValueError(f"<{name}>: {line[:80]!r} is not an object with an index and who ({err})") from err
    if "turn" in found:
        return BlockLine(index, is_agent, hear(from_json, json.dumps(found["turn"])))
    return BlockLine(index, is_agent, acts.heard(Action("speak", str(found.get("text", "")))))


def _charge(before: Sequence[Event], side: int, act: str) -> Charge:
    """Return what an act costs, by the list above."""
    standing = stand(before)
    own, other = standing.sides[side], standing.sides[1 - side]
    offer = standing.open_offer[1] if standing.open_offer and standing.open_offer[0] != side else ""
    is_loss = act == acts.LEAVE and standing.deal is None and other.unforgiven < RUDE_LIMIT
    charges = (
        (act == acts.RUDE and own.unforgiven + 1 >= RUDE_LIMIT, Charge(6, "which ends the talk")),
        (act == acts.RUDE, Charge(4, "which costs the other's trust")),
        (act == acts.ACCEPT and offer == acts.GREEDY, Charge(3, "which leaves the agent nothing")),
        (is_loss, Charge(3, "without a deal")),
        (act == acts.GREEDY, Charge(3, "which the other cannot take")),
        (act == acts.FAIR and acts.ASK not in own.done, Charge(2, "before asking what the other needs")),
        (act == acts.DECLINE and bool(offer) and is_taken(offer, other), Charge(2, "though the offer was sound")),
        (act == acts.CONCEDE, Charge(1, "which gives the goal away")),
    )
    return next((charge for holds, charge in charges if holds), Charge(0, "which costs nothing, as all of them"))


def _locate(job: AnnotationJob) -> dict[str, Any]:
    """Find the agent's costliest turn."""
    events, skipped = job.events(job.turns), len(job.opening)
    charged = [
        (_charge(events[: skipped + i], job.own, turn.act), turn) for i, turn in enumerate(job.turns) if turn.is_agent
    ]
    charge, turn = max(charged, key=lambda item: item[0].cost)
    return {"reason": f"{PREFACE}, this turn hurt most: {turn.act}, {charge.why}.", "index": turn.number}


def _segment(job: AnnotationJob, start: int) -> dict[str, Any]:
    """Find where the better session has got most of its lead."""
    better, worse = job.events(job.turns), job.events(job.worse)
    lengths = enumerate(job.turns, len(job.opening) + 1)
    ends = [(length, turn) for length, turn in lengths if turn.is_agent and turn.number >= start]
    leads = {part: _lead(better, worse, job.own, part) for part in ("goal", "relationship")}
    part = next((part for part, lead in leads.items() if lead > 0), "goal")
    ahead = [
        turn
        for length, turn in ends
        if leads[part] > 0 and 2 * _lead(better[: length + 1], worse[: length + 1], job.own, part) >= leads[part]
    ]
    short = ends[:FALLBACK_TURNS][-1][1]
    end, why = (ahead[0], "has most of its lead after") if ahead else (short, "is never ahead; up to")
    reason = f"{PREFACE}, the second session {why} this act: {end.act}."
    return {"reason": reason, "start_index": start, "end_index": end.number}


def _lead(better: Sequence[Event], worse: Sequence[Event], side: int, part: str) -> int:
    """Return how far the better session is ahead in goal or relationship."""
    return scores(better, side)[part] - scores(worse, side)[part]
