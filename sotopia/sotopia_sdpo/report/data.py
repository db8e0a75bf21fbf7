"""Everything a page shows, as one JSON value.

Comes in: pairs as `shown_pairs` reads them. Goes out: totals, histograms, scenarios, and for every pair the shared
history once and the rest of both sides. Invariant: indices are those of `conversations`, as in the file.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from sotopia_sdpo.pairs.published import LOCATED_TURNS, SEGMENT_LENGTHS
from sotopia_sdpo.pairs.records import SCORES, PreferencePair
from sotopia_sdpo.report.histograms import Histogram, counted, of_gains
from sotopia_sdpo.report.reading import ShownSide
from sotopia_sdpo.report.turns import Line, Opening, lines_of, names_of, opening_of, scenario_of


BOTH_SPEAKERS = "Messages of both speakers."
INFERRED = "Not recorded in this file, so counted from the first difference."

View = dict[str, Any]
"""A JSON object of the page."""
ShownPair = PreferencePair[ShownSide]


def report_of(pairs: Sequence[ShownPair]) -> View:
    """Make the page's data."""
    openings = [opening_of(pair.negative.conversations, pair.negative.agent_position) for pair in pairs]
    keys = [_scenario_key(pair, opening) for pair, opening in zip(pairs, openings, strict=True)]
    texts: dict[str, str] = {}
    for key, opening in zip(keys, openings, strict=True):
        if key:
            texts.setdefault(key, scenario_of(opening.background) or key)
    places = {key: place for place, key in enumerate(texts)}
    views = [
        view_of(pair, opening) | {"scenario": places.get(key)}
        for pair, opening, key in zip(pairs, openings, keys, strict=True)
    ]
    return {
        "scenarios": _scenarios(texts),
        "means": {score: _means(views, score) for score in SCORES},
        "histograms": [histogram.as_json() for histogram in histograms_of(views)],
        "pairs": views,
    }


def _scenario_key(pair: ShownPair, opening: Opening) -> str:
    """Return what identifies a scenario: its id, else its text; empty where the file has neither."""
    return pair.negative.env or scenario_of(opening.background)


def _scenarios(texts: dict[str, str]) -> list[View]:
    """Label every scenario; those with the same text also by their ids."""
    counts = Counter(texts.values())
    return [
        {"key": key, "text": text, "label": f"{text} ({key})" if counts[text] > 1 else text}
        for key, text in texts.items()
    ]


def view_of(pair: ShownPair, opening: Opening) -> View:
    """Make what the page shows of one pair, but for its scenario."""
    negative, positive = pair
    position = negative.agent_position
    is_shared = opening_of(positive.conversations, position).background == opening.background
    dialogues = [lines_of(side.conversations, position, not is_shared) for side in pair]
    segments = [side.segment for side in pair]
    shared = _shared(dialogues, segments)
    return {
        "id": negative.pair,
        "names": names_of(opening.background, position),
        "background": opening.background if is_shared else "",
        "shared": shared,
        "sides": [dialogue[len(shared) :] for dialogue in dialogues],
        "lengths": [len(side.conversations) for side in pair],
        "segments": segments,
        "location": negative.location,
        "location_reason": negative.location_reason,
        "reason": positive.reason or negative.reason,
        "episodes": [side.episode for side in pair],
        "env": negative.env,
        "agents": negative.agents,
        "models": [negative.agent_model, negative.partner_model],
        "position": position,
        "scores": {score: [getattr(side, score) for side in pair] for score in SCORES},
        "gains": {score: _gain(pair, score) for score in SCORES},
    }


def _shared(dialogues: Sequence[Sequence[Line]], segments: Sequence[tuple[int, int] | None]) -> list[Line]:
    """Return the lines that both sides begin with, none of them in a segment."""
    ends = [segment[0] for segment in segments if segment]
    same = takewhile(lambda both: both[0] == both[1], zip(*dialogues, strict=False))
    return [line for line, _ in same if all(line.at < end for end in ends)]


def _gain(pair: ShownPair, score: str) -> float | None:
    """Subtract the scores; where they are not in the file, take the gain that is."""
    negative, positive = (getattr(side, score) for side in pair)
    if negative is None or positive is None:
        found: float | None = getattr(pair.negative, f"{score}_gain")
        return found
    return float(positive - negative)


def _means(views: Sequence[View], score: str) -> list[float] | None:
    """Average a score of both sides over the pairs that have it."""
    scored = [view["scores"][score] for view in views if None not in view["scores"][score]]
    return [sum(values) / len(scored) for values in zip(*scored, strict=True)] or None


def histograms_of(views: Sequence[View]) -> list[Histogram]:
    """Count segment lengths, located turns and gains, as far as the file has them."""
    lengths = [segment[1] - segment[0] for view in views if (segment := view["segments"][1])]
    locations = [view["location"] for view in views if view["location"] is not None]
    found = []
    if lengths:
        note = _partly(BOTH_SPEAKERS, len(lengths), len(views))
        found.append(counted("Segment length", note, lengths, SEGMENT_LENGTHS))
    if locations:
        note = _partly("Index in the dialogue, from 0.", len(locations), len(views))
        found.append(counted("Located turn", note, locations, LOCATED_TURNS))
    if not lengths and not locations and all(first == second for first, second in (v["lengths"] for v in views)):
        found += _inferred(views)
    for score in SCORES:
        if gains := [view["gains"][score] for view in views if view["gains"][score] is not None]:
            found.append(of_gains(f"Gain in {score}", gains))
    return found


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
