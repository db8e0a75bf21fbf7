"""Everything a page shows, as one JSON value.

Comes in: pairs as `shown_pairs` reads them. Goes out: totals, histograms, scenarios, and for every pair the shared
history once and the rest of both sides. Invariant: indices are those of `conversations`, as in the file.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from sotopia_sdpo.pairs.digest import digest_of
from sotopia_sdpo.pairs.published import LOCATED_TURNS, SEGMENT_LENGTHS
from sotopia_sdpo.play.dialogue import AGENT
from sotopia_sdpo.report.histograms import Histogram, counted, of_gains
from sotopia_sdpo.report.page import PAIRS, Words
from sotopia_sdpo.report.reading import ShownPair, ShownSide
from sotopia_sdpo.report.turns import Line, Opening, lines_of, names_of, opening_of, scenario_of


BOTH_SPEAKERS = "Messages of both speakers."
INFERRED = "Not recorded in this file, so counted from the first difference."

View = dict[str, Any]
"""A JSON object of the page."""


def report_of(pairs: Sequence[ShownPair]) -> View:
    """Make the page's data."""
    names = list(dict.fromkeys(name for pair in pairs for side in pair for name in side.outcome_names))
    found = []
    for pair in pairs:
        opening = _opening(pair.negative)
        told = scenario_of(opening.background)
        found.append((_scenario_key(pair, opening), told, view_of(pair, opening, names)))
    return report_of_views(found, names, "task" if any(pair.negative.is_logged for pair in pairs) else "scenario")


def report_of_views(
    found: Sequence[tuple[str, str, View]], names: Sequence[str], place: str, words: Words = PAIRS
) -> View:
    """Make the page's data.

    Args:
        found: by pair, what identifies its scenario and the text of that, both empty where unknown, and its view.
        names: of outcomes.
        place: what a scenario is called.
        words: what is shown.
    """
    texts: dict[str, str] = {}
    for key, told, _ in found:
        if key:
            texts.setdefault(key, told or key)
    places = {key: place for place, key in enumerate(texts)}
    views = [view | {"scenario": places.get(key)} for key, _, view in found]
    return {
        "scenarios": _scenarios(texts),
        "place": place,
        "outcomes": [name for name in names if any(_is_known(view, name) for view in views)],
        "by_state": sum(view["match"] == "state" for view in views),
        "means": {name: _means(views, name) for name in names},
        "histograms": [histogram.as_json() for histogram in histograms_of(views, names, words)],
        "pairs": views,
    }


def _scenario_key(pair: ShownPair, opening: Opening) -> str:
    """Return what identifies a scenario or a task: its id, else its text; empty where the file has neither."""
    return pair.negative.task or pair.negative.env or scenario_of(opening.background)


def _scenarios(texts: dict[str, str]) -> list[View]:
    """Label every scenario; those with the same text also by their ids."""
    counts = Counter(texts.values())
    return [
        {"key": key, "text": text, "label": f"{text} ({key})" if counts[text] > 1 else text}
        for key, text in texts.items()
    ]


def _opening(side: ShownSide) -> Opening:
    return opening_of(side.conversations, side.agent_position, side.is_logged)


def view_of(pair: ShownPair, opening: Opening, names: Sequence[str]) -> View:
    """Make what the page shows of one pair, but for its scenario: its outcomes by these names."""
    negative, positive = pair
    position = negative.agent_position
    is_shared = _opening(positive).background == opening.background
    dialogues = [lines_of(side.conversations, _opening(side), not is_shared) for side in pair]
    segments = [side.segment for side in pair]
    shared = _shared(dialogues, segments)
    return {
        "id": negative.pair,
        "digest": digest_of(pair),
        "names": names_of(opening.background, position),
        "background": opening.background if is_shared else "",
        "shared": shared,
        "sides": [dialogue[len(shared) :] for dialogue in dialogues],
        "lengths": [len(side.conversations) for side in pair],
        "segments": segments,
        "weights": [_weights(side) for side in pair],
        "location": negative.location,
        "location_reason": negative.location_reason,
        "reason": positive.reason or negative.reason,
        "episodes": [side.episode for side in pair],
        "env": negative.env,
        "task": negative.task,
        "trials": [side.trial for side in pair],
        "source": negative.source,
        "match": negative.match or positive.match,
        "agent_turns": [_agent_turns(side) for side in pair],
        "agents": negative.agents,
        "models": [negative.agent_model, negative.partner_model],
        "position": position,
        "scores": {name: [side.value(name) for side in pair] for name in names},
        "gains": {name: _gain(pair, name) for name in names},
    }


def _shared(dialogues: Sequence[Sequence[Line]], segments: Sequence[tuple[int, int] | None]) -> list[Line]:
    """Return the lines that both sides begin with, none of them in a segment."""
    ends = [segment[0] for segment in segments if segment]
    same = takewhile(lambda both: both[0] == both[1], zip(*dialogues, strict=False))
    return [line for line, _ in same if all(line.at < end for end in ends)]


def _weights(side: ShownSide) -> dict[int, float]:
    """Return the weights other than 1 that a side's turns have in training, by the turns' indices."""
    given = {index: turn.get("weight", 1) for index, turn in enumerate(side.conversations)}
    return {index: weight for index, weight in given.items() if weight != 1}


def _agent_turns(side: ShownSide) -> int | None:
    """Count the agent's turns in a segment."""
    if side.segment is None:
        return None
    return sum(turn["from"] in AGENT for turn in side.conversations[slice(*side.segment)])


def _gain(pair: ShownPair, name: str) -> float | None:
    """Subtract the values; where they are not in the file, take the gain that is."""
    negative, positive = (side.value(name) for side in pair)
    if negative is None or positive is None:
        return pair.negative.gain(name)
    return float(positive - negative)


def _is_known(view: View, name: str) -> bool:
    """Return whether a page can say anything of an outcome of a pair."""
    return view["gains"].get(name) is not None or view["scores"].get(name, [None, None]) != [None, None]


def _means(views: Sequence[View], score: str) -> list[float] | None:
    """Average a score of both sides over the pairs that have it."""
    scored = [found for view in views if None not in (found := view["scores"].get(score, [None]))]
    return [sum(values) / len(scored) for values in zip(*scored, strict=True)] or None


def histograms_of(views: Sequence[View], names: Sequence[str], words: Words = PAIRS) -> list[Histogram]:
    """Count segment lengths, located turns and gains, as far as the file has them."""
    found = _of_pairs(views) if words.are_pairs else []
    for name in names:
        if gains := [more for view in views if (more := view["gains"].get(name)) is not None]:
            found.append(of_gains(f"{words.gain} {name}", gains))
    return found


def _of_pairs(views: Sequence[View]) -> list[Histogram]:
    is_logged = any(view["task"] is not None for view in views)
    lengths = [segment[1] - segment[0] for view in views if (segment := view["segments"][1])]
    locations = [view["location"] for view in views if view["location"] is not None]
    found = []
    if is_logged:
        found += _counted_turns(views)
    elif lengths:
        note = _partly(BOTH_SPEAKERS, len(lengths), len(views))
        found.append(counted("Segment length", note, lengths, SEGMENT_LENGTHS))
    if locations and not is_logged:
        note = _partly("Index in the dialogue, from 0.", len(locations), len(views))
        found.append(counted("Located turn", note, locations, LOCATED_TURNS))
    is_cut = all(first == second for first, second in (view["lengths"] for view in views))
    if is_cut and not (is_logged or lengths or locations):
        found += _inferred(views)
    return found


def _counted_turns(views: Sequence[View]) -> list[Histogram]:
    """Count the agent's turns in the segments of pairs out of logs, which nobody has published."""
    turns = [view["agent_turns"][1] for view in views if view["agent_turns"][1] is not None]
    note = _partly("The agent's turns; calls and results between them are not counted.", len(turns), len(views))
    return [counted("Segment length", note, turns)] if turns else []


def _partly(note: str, count: int, total: int) -> str:
    return note if count == total else f"{note} Recorded for {count:,} of {total:,} pairs."


def _inferred(views: Sequence[View]) -> list[Histogram]:
    """Count the same in a bare file of cut pairs, where what differs up to the end is what would be trained on."""
    starts = [(view["sides"][0][0].at, view["lengths"][0]) for view in views if view["sides"][0]]
    lengths = [length - start for start, length in starts]
    return [
        counted("Length of what differs", f"{BOTH_SPEAKERS} {INFERRED}", lengths, SEGMENT_LENGTHS),
        counted("First differing turn", INFERRED, [start for start, _ in starts], LOCATED_TURNS),
    ]
