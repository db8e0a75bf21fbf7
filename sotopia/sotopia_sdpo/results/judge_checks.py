"""What a judge is held to: the figures of one judge on one dimension, and the thresholds they are compared with.

Comes in: what people gave, what a judge gave, and the sessions' lengths and agents. Goes out: figures, and the faults
that CHECKS finds in them. Invariant: a fault is told only where an interval is clear of it, or a limit is passed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from sotopia_sdpo.judge.dimensions import Dimension
from sotopia_sdpo.llm.spec import short_name
from sotopia_sdpo.results.agreement import Pair, alpha, correlation, long_against_short, slope, spread, weighted_kappa
from sotopia_sdpo.results.people import Facts, People, Side
from sotopia_sdpo.results.stats import Estimate, clustered


FEWEST_SESSIONS = 20
LEAN = 0.05
"""Share of a dimension's range: 0.5 of the 10 points of the goal."""
UNSTEADY = 0.10
ENOUGH_R = 0.7
"""However closely people agree."""
LEAST_R = 0.5
"""Where no side was rated twice, so that it is unknown how far they do."""
FAMILY = re.compile(r"[a-z]+")
FAMILIES = {"chatgpt": "gpt", "o": "gpt", "mixtral": "mistral", "ministral": "mistral", "codellama": "llama"}
"""Names that a maker has given to the same family."""


class Agreement(NamedTuple):
    """How far people agree with each other."""

    sides: int
    """Rated by at least two."""
    r: Estimate | None
    """Of the first rater and the second one."""
    kappa: float | None
    alpha: float | None
    """Of all raters."""


class Figures(NamedTuple):
    """One judge on one dimension, against the means of the people."""

    sides: int
    sessions: int
    r: Estimate | None
    kappa: float | None
    alpha: float | None
    """Of the raters and the judge as one more."""
    bias: Estimate
    """Judge minus people."""
    by_turns: Estimate | None
    """What the bias is larger by in long sessions than in short ones: two standard deviations apart."""
    by_characters: Estimate | None
    own_family: Estimate | None
    """What the bias is larger by on agents of the judge's own family."""
    repeats: float | None
    """Standard deviation of one session's judgements."""


class Check(NamedTuple):
    """One way to fail."""

    rule: str
    """As documents state it."""
    fault: Callable[[Figures, Agreement, Dimension], str]
    """Names the fault; "" where there is none."""
    is_final: bool = False
    """Whether nothing more can be said then."""


def people_agree(people: People, dimension: str) -> Agreement:
    """Return how far people agree on a dimension."""
    given = {side: ratings for side, ratings in people.given(dimension).items() if len(ratings) > 1}
    pairs = [Pair(side.session, *ratings[:2]) for side, ratings in given.items()]
    return Agreement(len(given), correlation(pairs), weighted_kappa(pairs), alpha(given.values()))


def figures_of(
    judge: str, given: Mapping[Side, Sequence[float]], people: People, facts: Mapping[str, Facts], dimension: str
) -> Figures | None:
    """Return the figures of a judge on a dimension; None where no side that it judged was rated by people.

    Args:
        judge: its name, which tells its family.
        given: all its scores of every side.
        people: what people gave.
        facts: lengths and agents of the sessions.
        dimension: the dimension's name.
    """
    rated = people.given(dimension)
    sides = [side for side in rated if side in given]
    if not sides:
        return None
    pairs = [Pair(side.session, fmean(rated[side]), fmean(given[side])) for side in sides]
    gaps = {side: pair.y - pair.x for side, pair in zip(sides, pairs, strict=True)}

    def against(known: Callable[[Facts, int], float | None]) -> list[Pair]:
        found = ((side, known(facts.get(side.session, Facts()), side.position)) for side in sides)
        return [Pair(side.session, value, gaps[side]) for side, value in found if value is not None]

    def is_own(fact: Facts, position: int) -> float | None:
        agent = fact.models[position]
        return float(family_of(agent) == family_of(judge)) if agent else None

    return Figures(
        len(sides),
        len({side.session for side in sides}),
        correlation(pairs),
        weighted_kappa(pairs),
        alpha([*rated[side], fmean(given[side])] for side in sides),
        clustered((side.session, gap) for side, gap in gaps.items()),
        long_against_short(against(lambda fact, _: fact.turns)),
        long_against_short(against(lambda fact, _: fact.characters)),
        slope(against(is_own)),
        spread(given.values()),
    )


def family_of(model: str) -> str:
    """Return the first word of a model's name, which tells its maker: gpt of gpt-4o, llama of Meta-Llama-3."""
    words = FAMILY.findall(short_name(model).casefold().removeprefix("meta-"))
    return FAMILIES.get(words[0], words[0]) if words else ""


def verdict(figures: Figures, people: Agreement, dimension: Dimension) -> str:
    """Return what is to be said of a judge on a dimension: its faults, or that it is good."""
    faults = []
    for check in CHECKS:
        if fault := check.fault(figures, people, dimension):
            faults.append(fault)
            if check.is_final:
                break
    return ", ".join(faults) or "good"


def _clear(found: Estimate | None, dimension: Dimension) -> float:
    """Return an effect whose interval is clear of 0, and which is as large as it takes; else 0."""
    is_clear = found is not None and (found.low > 0 or found.high < 0)
    return found.mean if found and is_clear and abs(found.mean) > LEAN * _range(dimension) else 0.0


def _range(dimension: Dimension) -> int:
    return dimension.high - dimension.low


def _no_people(_: Figures, people: Agreement, __: Dimension) -> str:
    agree = people.r is not None and people.r.low > 0
    return "people do not rank alike here" if people.sides and not agree else ""


def _too_few(figures: Figures, *_: object) -> str:
    return "too few sessions" if figures.sessions < FEWEST_SESSIONS else ""


def _disagrees(figures: Figures, people: Agreement, _: Dimension) -> str:
    least = min(people.r.low, ENOUGH_R) if people.r else LEAST_R
    return "" if figures.r and figures.r.mean >= least else "ranks unlike people"


def _bias(figures: Figures, _: Agreement, dimension: Dimension) -> str:
    bias = _clear(figures.bias, dimension)
    return f"{'generous' if bias > 0 else 'severe'} by {abs(bias):.1f}" if bias else ""


def _length(figures: Figures, _: Agreement, dimension: Dimension) -> str:
    found = [_clear(one, dimension) for one in (figures.by_turns, figures.by_characters)]
    lean = max(found, key=abs)
    return f"likes {'long' if lean > 0 else 'short'} dialogues ({lean:+.1f})" if lean else ""


def _family(figures: Figures, _: Agreement, dimension: Dimension) -> str:
    lean = _clear(figures.own_family, dimension)
    return f"{'favours' if lean > 0 else 'disfavours'} its own family ({lean:+.1f})" if lean else ""


def _repeats(figures: Figures, _: Agreement, dimension: Dimension) -> str:
    is_unsteady = figures.repeats is not None and figures.repeats > UNSTEADY * _range(dimension)
    return f"unsteady (SD {figures.repeats:.1f})" if is_unsteady else ""


CHECKS = (
    Check("people do not rank alike here: the interval of their r contains 0; nothing more is said", _no_people, True),
    Check(f"too few sessions: fewer than {FEWEST_SESSIONS}; nothing more is said", _too_few, True),
    Check(
        f"ranks unlike people: the judge's r is below {ENOUGH_R} and below the interval of people's r "
        f"(below {LEAST_R} where people have none)",
        _disagrees,
    ),
    Check(
        f"generous, severe: the interval of the bias leaves out 0, and the bias is more than {LEAN:.0%} of the "
        "dimension's range",
        _bias,
    ),
    Check(
        "likes long, short dialogues: the same holds for what the bias grows by with turns, or with characters",
        _length,
    ),
    Check(
        "favours, disfavours its own family: the same holds for what the bias grows by on agents of that family",
        _family,
    ),
    Check(f"unsteady: the standard deviation of repeats is more than {UNSTEADY:.0%} of the range", _repeats),
)
"""In this order."""
