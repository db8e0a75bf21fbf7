"""Equal tuning: every method gets as many trainings on development scenarios, and one rule picks among them.

Comes in: a method's options. Goes out: candidates in the order they are tried, and the one that is picked. First come
the learning rates, RATES times the method's own; then, at the best of them, the values of one more option: DMPO's γ, β
of the other methods on pairs, the number of epochs of Preferred-SFT.
Rule: the highest mean score among the candidates of which at least LEAST_SCORED of the episodes came to a score (among
all, if none did: those with the most scored ones); of equal ones, the first that was tried. An episode on which the
judge gave no verdict is none of the candidate's failures, and does not count.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.make.lines import say
from sotopia_sdpo.make.runner import Runner
from sotopia_sdpo.make.steps import Step
from sotopia_sdpo.results.league import LEAST_SCORED
from sotopia_sdpo.results.scores import estimates_of, scores_of
from sotopia_sdpo.results.stats import decimals
from sotopia_sdpo.store import open_store
from sotopia_sdpo.whole_files import write_whole


LEARNING_RATE = "learning_rate"
SEED = "0"
"""Of the trainings and samples of tuning; a seed of evaluation that is the same one still has other scenarios."""
RECORD = "tuning.json"

Options = tuple[tuple[str, str], ...]
"""Names and values, in the order they were chosen."""


class Knob(NamedTuple):
    """An option that is tuned after the learning rate, and what it is tried at besides its default."""

    option: str
    values: tuple[str, ...]


BETA = Knob("pref_beta", ("0.03", "0.3"))
GAMMA = Knob("dmpo_gamma", ("0.5", "0.9"))
NONE = Knob("", ())
EPOCHS = Knob("num_train_epochs", ("1", "6"))


class Tried(NamedTuple):
    """A candidate that was trained and played."""

    options: Options
    mean: float
    """Of the first score; 0 where no episode has one."""
    scored: int
    episodes: int
    """Scored ones, and those that the candidate failed in."""


class Candidates(Protocol):
    """The steps of tuning."""

    @property
    def run(self) -> Path:
        """The run folder."""

    def rates(self, arm: str) -> list[Options]:
        """Return the candidates of a method by learning rate."""

    def tune_arm(self, arm: str, options: Options) -> Step:
        """Return the step that trains a candidate."""

    def on_development(self, arm: str, options: Options) -> Step:
        """Return the step that plays it on the development scenarios."""


def tune(
    steps: Candidates, runner: Runner, knobs: Mapping[str, Knob], factors: Sequence[float], at_once: int = 1
) -> dict[str, Options]:
    """Tune every method with as many trainings, say what was picked, and write it down.

    Args:
        steps: the trainings and what plays their models.
        runner: runs them.
        knobs: by method, what is tuned after the learning rate.
        factors: of the learning rates.
        at_once: how many methods are tuned at a time.
    """

    def tune_one(own: Runner, arm: str) -> list[Tried]:
        tried = [_try(steps, own, arm, options) for options in steps.rates(arm)]
        tried += [_try(steps, own, arm, options) for options in further(pick(tried).options, knobs[arm])]
        if not own.is_planning:
            say(f"    {line(arm, tried, factors)}")
        return tried

    all_tried = runner.branches([partial(tune_one, arm=arm) for arm in knobs], at_once)
    found = dict(zip(knobs, all_tried, strict=True))
    if not runner.is_planning:
        write_record(steps.run, found)
    return {arm: pick(tried).options for arm, tried in found.items()}


def _try(steps: Candidates, runner: Runner, arm: str, options: Options) -> Tried:
    """Train and play one candidate; one that is only planned has no episode."""
    play = steps.on_development(arm, options)
    runner.branches([lambda own: own.steps([steps.tune_arm(arm, options), play])])
    tags = runner.tags(play)
    (counts,) = runner.database.counts(tags)
    if not counts:
        return Tried(options, 0.0, 0, 0)
    with open_store(runner.database.url, create=False) as store:
        scores = scores_of(store, tags)
    mean = next(iter(estimates_of(scores).values())).mean if scores else 0.0
    return Tried(options, mean, len(scores), len(scores) + counts.get("failed", 0))


def rates(default: str, factors: Sequence[float]) -> list[Options]:
    """Return the candidates by learning rate.

    Raises:
        UserError: if the default is no number.
    """
    try:
        return [((LEARNING_RATE, f"{float(default) * factor:.6g}"),) for factor in factors]
    except ValueError:
        raise UserError(f"learning_rate={default}: expected a number, since tuning multiplies it") from None


def further(best: Options, knob: Knob) -> list[Options]:
    """Return the candidates by another option, at the best learning rate."""
    return [(*best, (knob.option, value)) for value in knob.values]


def pick(tried: Sequence[Tried]) -> Tried:
    """Return the candidate that the rule picks."""
    shares = [one.scored / one.episodes if one.episodes else 0.0 for one in tried]
    enough = min(LEAST_SCORED, max(shares))
    return max((one for one, share in zip(tried, shares, strict=True) if share >= enough), key=lambda one: one.mean)


def name_of(options: Options) -> str:
    """Return options as part of a name of a step or a folder."""
    return ".".join(f"{name}-{value}" for name, value in options)


def merged(options: Sequence[str], others: Options) -> tuple[str, ...]:
    """Return NAME=VALUE words with others in the place of those of the same name."""
    names = {name for name, _ in others}
    kept = (word for word in options if word.partition("=")[0] not in names)
    return *kept, *(f"{name}={value}" for name, value in others)


def line(arm: str, tried: Sequence[Tried], factors: Sequence[float]) -> str:
    """Say what was picked for a method, and whether it lies at the end of what was tried."""
    best = pick(tried)
    means = ", ".join(
        f"{name_of(one.options[-1:])} {decimals(one.mean)}" + (f" ({one.scored} of {one.episodes})" * _is_short(one))
        for one in tried
    )
    first = [one.options[0] for one in tried[: len(factors)]]
    order = sorted(range(len(factors)), key=factors.__getitem__)
    at_end = best.options[0] in (first[order[0]], first[order[-1]])
    edge = "; the learning rate is at an end of its range" if at_end and len(factors) > 1 else ""
    return f"{arm}: {' '.join(f'{name}={value}' for name, value in best.options)} of {means}{edge}"


def _is_short(one: Tried) -> bool:
    return one.scored < LEAST_SCORED * one.episodes


def write_record(run: Path, tried: Mapping[str, Sequence[Tried]]) -> None:
    """Write down what was tried for every method, and what was picked."""
    record = {
        arm: {
            "picked": dict(pick(found).options),
            "tried": [{**dict(one.options), **dict(zip(one._fields[1:], one[1:], strict=True))} for one in found],
        }
        for arm, found in tried.items()
    }
    write_whole(run / RECORD, json.dumps(record, indent=1))
