"""Judge a session by a panel: several models, or one several times.

Comes in: a session, and one evaluator or a panel. Goes out: a verdict; of a panel, the mean or the median of its
judges, each of whom counts with the mean or median of its own judgements, and a record of what each said.
Invariant: one evaluator asked once is asked as if there were no panels. A panel's verdict is that of more than half
of its judges, or there is none; those who gave none are in the record.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any, Literal, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.dimensions import DIMENSIONS, OVERALL
from sotopia_sdpo.judge.verdict import METERED_AS, Verdict, evaluate
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.spec import ModelSpec, name_of, parse_model, split_models, without_address
from sotopia_sdpo.llm.usage import Meter
from sotopia_sdpo.play.dialogue import Session
from sotopia_sdpo.store.episode import Reward


PANEL = "panel"
"""The setting that holds a panel's record."""
Rule = Literal["mean", "median"]
RULES: dict[Rule, Callable[[Iterable[float]], float]] = {"mean": fmean, "median": median}
Scores = dict[str, float]


class Panel(NamedTuple):
    """Several judgements of every session, by one judge or more."""

    judges: tuple[ModelSpec, ...]
    rule: Rule = "mean"
    repeats: int = 1
    """How often each judge is asked."""

    @property
    def name(self) -> str:
        """What tags and episodes call it: without addresses, and the same in whatever order its judges are given."""
        names = ",".join(sorted(map(_stable_name, self.judges)))
        return f"{self.rule}({names})" + (f"x{self.repeats}" if self.repeats > 1 else "")


Evaluator = ModelSpec | Panel


def parse_evaluator(typed: str, rule: Rule = "mean", repeats: int = 1, is_called: bool = True) -> Evaluator:
    """Read who judges: a model, or several with commas between them.

    Args:
        typed: as on the command line.
        rule: how the scores of several become one.
        repeats: how often each is asked.
        is_called: whether they must be reachable; `custom/NAME` needs an address only then.

    Raises:
        UserError: if a name is none, or is there twice.
    """
    names = split_models(typed)
    judges = tuple(parse_model(name) if is_called else ModelSpec(name_of(name), name_of(name)) for name in names)
    if len(judges) == 1 and repeats == 1:
        return judges[0]
    called = list(map(_stable_name, judges))
    if twice := [name for name in called if called.count(name) > 1]:
        raise UserError(f"--evaluator-model names {twice[0]} twice; to judge more than once, use --judge-repeats")
    return Panel(judges, rule, repeats)


def _stable_name(judge: ModelSpec) -> str:
    return without_address(judge.name) if judge.is_custom else judge.name


def judges_of(evaluator: Evaluator) -> tuple[ModelSpec, ...]:
    """Return the models that are called, each as often as it is."""
    return (evaluator,) if isinstance(evaluator, ModelSpec) else evaluator.judges * evaluator.repeats


async def judge(
    client: LLMClient, evaluator: Evaluator, session: Session, meter: Meter
) -> tuple[Verdict, dict[str, Any]]:
    """Return the verdict on a session, and what an episode's settings hold of it: the record of a panel."""
    if isinstance(evaluator, ModelSpec):
        return await evaluate(client, evaluator, session, meter), {}
    judges = judges_of(evaluator)
    meters = [Meter() for _ in judges]
    verdicts = await asyncio.gather(*map(lambda one, own: evaluate(client, one, session, own), judges, meters))
    record = []
    for one, verdict, own in zip(judges, verdicts, meters, strict=True):
        meter.add(METERED_AS, own.parts[METERED_AS])
        scores = [{d.name: reward[1][d.name] for d in DIMENSIONS} for reward in verdict.rewards]
        record.append({"judge": one.name, "scores": scores, "failure": verdict.failure, **own.record()})
    return _joined(evaluator, judges, verdicts), {PANEL: record}


def _joined(panel: Panel, judges: Sequence[ModelSpec], verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of more than half of a panel, or why there is none."""
    given: dict[str, list[Verdict]] = {one.name: [] for one in judges}
    for one, verdict in zip(judges, verdicts, strict=True):
        if not verdict.failure:
            given[one.name].append(verdict)
    heard = [found for found in given.values() if found]
    if 2 * len(heard) <= len(given):
        first = next(verdict.failure for verdict in verdicts if verdict.failure)
        fault = f"{len(heard)} of the {len(given)} judges gave a verdict, more than half are needed: {first}"
        return Verdict(failure=fault, is_unreachable=any(verdict.is_unreachable for verdict in verdicts))
    rewards = [
        _reward(panel.rule, [[dict(one.rewards[position][1]) for one in found] for found in heard])
        for position in range(len(heard[0][0].rewards))
    ]
    texts = [
        f"Judge {one.name}:\n{verdict.reasoning}"
        for one, verdict in zip(judges, verdicts, strict=True)
        if not verdict.failure
    ]
    return Verdict(rewards, "\n".join(texts))


def _reward(rule: Rule, by_judge: Sequence[Sequence[Mapping[str, float]]]) -> Reward:
    """Return one agent's scores from those of every judge's judgements."""
    middle = RULES[rule]
    scores = {d.name: middle(middle(one[d.name] for one in own) for own in by_judge) for d in DIMENSIONS}
    overall = fmean(scores.values())
    return overall, {**scores, OVERALL: overall}


class Judgement(NamedTuple):
    """What one judge said once of a session."""

    judge: str
    scores: tuple[Scores, ...]
    """By agent; empty where it gave no verdict."""


def judgements_in(settings: Mapping[str, Any]) -> list[Judgement]:
    """Read a panel's record out of an episode's settings; empty where one judge was asked once."""
    return [Judgement(one["judge"], tuple(one["scores"])) for one in settings.get(PANEL, ())]


def disagreement(judgements: Iterable[Judgement], agent: int, dimension: str) -> float | None:
    """Return the standard deviation between the judges, or between the judgements of a single one; None for one."""
    by_judge: dict[str, list[float]] = {}
    for one in judgements:
        if one.scores:
            by_judge.setdefault(one.judge, []).append(one.scores[agent][dimension])
    values = [fmean(given) for given in by_judge.values()]
    values = next(iter(by_judge.values())) if len(values) == 1 else values
    return stdev(values) if len(values) > 1 else None
