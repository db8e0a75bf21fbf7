"""Pair failed and successful trials of one task.

Comes in: dialogues with outcomes, and the bounds of failure and success. Goes out: pairs of whole dialogues, or of
such that share a history, word for word or in what was called and what that gave. Invariant: two sides that share a
history part in a turn of the agent's, and are word for word the same before it.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.outcomes import named
from sotopia_sdpo.pairs.records import LoggedSide, PairedLog, PreferencePair, starts_at
from sotopia_sdpo.pairs.segments import NoSegment, parting
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.pairs.tool_turns import tool_turn
from sotopia_sdpo.play.dialogue import AGENT, Message


Trials = PreferencePair[LoggedSide]
"""A failed and a successful trial of one task."""
LogPair = PreferencePair[PairedLog]
DEFAULT_OUTCOME = "reward"


class Bounds(NamedTuple):
    """What counts as failed, and what as successful."""

    outcome: str
    below: float
    at_least: float

    def __str__(self) -> str:
        return f"failed is {self.outcome} under {self.below:g}, successful is {self.at_least:g} or more"

    def value(self, side: LoggedSide) -> float | None:
        """Return the outcome that counts."""
        found = named(side.outcomes, self.outcome)
        return None if found is None else found.value


class Entry(NamedTuple):
    """What the agent called in one turn, and what that gave."""

    calls: str
    """In one spelling, whatever the order of the arguments."""
    results: list[str]
    end: int
    """The index after the results."""


def bounds_of(sides: Sequence[LoggedSide], name: str | None, below: float | None, at_least: float | None) -> Bounds:
    """Return the bounds, as given or by the upper end of the outcome's range.

    Raises:
        UserError: if it is not clear which outcome is meant, or what is a success.
    """
    names = list(dict.fromkeys(one.name for side in sides for one in side.outcomes))
    if name is None:
        if len(names) > 1 and DEFAULT_OUTCOME not in names:
            raise UserError(f"the logs have the outcomes {', '.join(names)}; say which counts with --outcome")
        name = DEFAULT_OUTCOME if DEFAULT_OUTCOME in names else names[0]
    highs = {one.high for side in sides for one in side.outcomes if one.name == name}
    known = highs.pop() if len(highs) == 1 else None
    failed = next((bound for bound in (below, at_least, known) if bound is not None), None)
    successful = next((bound for bound in (at_least, known, below) if bound is not None), None)
    if failed is None or successful is None:
        raise UserError(f"the range of {name} is not known; say with --at-least from where it is a success")
    if failed > successful:
        raise UserError(f"--below {failed:g} is more than the {successful:g} of a success; a dialogue could be both")
    return Bounds(name, failed, successful)


def trials_of(sides: Sequence[LoggedSide], bounds: Bounds, tally: Tally) -> list[Trials]:
    """Return every failed trial with every successful one of its task."""
    tasks: dict[tuple[str, str], tuple[list[LoggedSide], list[LoggedSide]]] = defaultdict(lambda: ([], []))
    for side in sides:
        value = bounds.value(side)
        failed, successful = tasks[side.source, side.task]
        if value is not None and value < bounds.below:
            failed.append(side)
        elif value is not None and value >= bounds.at_least:
            successful.append(side)
        else:
            tally.note("dialogues are neither failed nor successful")
    for failed, successful in tasks.values():
        if not (failed and successful):
            tally.note("tasks lack a failed or a successful trial")
    pairs = [Trials(one, other) for failed, successful in tasks.values() for one in failed for other in successful]
    return list(tally.only(pairs, lambda pair: pair.negative.tools == pair.positive.tools, "with different tools"))


def whole_pairs(pairs: Sequence[Trials], tally: Tally) -> Iterator[LogPair]:
    """Return pairs of whole dialogues, and count those that say the same."""
    for pair in tally.only(pairs, lambda one: one[0].conversations != one[1].conversations, "with no difference"):
        tally.keep()
        yield _paired(pair, pair.positive.conversations)


def shared_pairs(pairs: Sequence[Trials], tally: Tally, by_state: bool) -> Iterator[LogPair]:
    """Return the pairs that share a history, and count the others by reason.

    Args:
        pairs: the trials.
        tally: counts what is left out.
        by_state: take also those that share what was called and what that gave; they are marked.
    """
    for pair in pairs:
        try:
            found = _shared(pair, by_state)
        except NoSegment as err:
            tally.drop(str(err))
            continue
        tally.keep()
        yield found


def _shared(pair: Trials, by_state: bool) -> LogPair:
    """Return a pair from where its sides part.

    Raises:
        NoSegment: if they share no history that ends before a turn of the agent's.
    """
    negative, positive = pair.negative.conversations, pair.positive.conversations
    try:
        parting(negative, positive)
    except NoSegment:
        if not by_state:
            raise
    else:
        return _paired(pair, positive)
    if pair.negative.user_tools or pair.positive.user_tools:
        raise NoSegment("whose user calls tools, so that the agent's calls alone are no state")
    moved = from_same_state(negative, positive)
    parting(negative, moved)
    return _paired(pair, moved, "state")


def from_same_state(negative: Sequence[Message], positive: Sequence[Message]) -> list[Message]:
    """Return the positive as it would stand had it begun like the negative.

    The beginning is the negative's up to its first turn after the last of the calls and results that both begin with;
    what follows is the positive's own.

    Raises:
        NoSegment: if they begin with no call in common, or the partner speaks differently right after the last one.
    """
    both = zip(entries_of(negative), entries_of(positive), strict=False)
    shared = list(takewhile(lambda two: two[0][:2] == two[1][:2], both))
    if not shared or negative[: starts_at(negative)] != positive[: starts_at(positive)]:
        raise NoSegment("that share no first call and result")
    start, own_start = (
        _agents_turn(side, entry.end) for side, entry in zip((negative, positive), shared[-1], strict=True)
    )
    if negative[shared[-1][0].end : start] != positive[shared[-1][1].end : own_start]:
        raise NoSegment("that differ first in the partner's turn")
    return [*negative[:start], *positive[own_start:]]


def entries_of(conversations: Sequence[Message]) -> list[Entry]:
    """Return what was called and what that gave, turn by turn, as far as there are results."""
    found = []
    for start, turn in enumerate(conversations):
        if turn["from"] == "function_call":
            results = list(takewhile(lambda one: one["from"] == "observation", conversations[start + 1 :]))
            calls = json.dumps(tool_turn(turn["value"]).calls, sort_keys=True)
            found.append(Entry(calls, [one["value"] for one in results], start + 1 + len(results)))
    return list(takewhile(lambda entry: entry.results, found))


def _agents_turn(conversations: Sequence[Message], start: int) -> int:
    """Return the index of the agent's next turn."""
    return next(place for place in range(start, len(conversations)) if conversations[place]["from"] in AGENT)


def _paired(pair: Trials, positive: Sequence[Message], match: str | None = None) -> LogPair:
    """Make the two records of a pair; the facts about the pair are on both."""
    negative, other = pair
    both = [(one, named(other.outcomes, one.name)) for one in negative.outcomes]
    shared = {
        "pair": f"{negative.name}:{other.name}",
        "match": match,
        "outcome_gains": {one.name: better.value - one.value for one, better in both if better is not None},
        "tail": None,  # it would follow on a dialogue that a later step may cut
    }
    return LogPair(
        PairedLog(**{**negative.dump(), **shared, "side": "negative"}),
        PairedLog(**{**other.dump(), **shared, "side": "positive", "conversations": list(positive)}),
    )
