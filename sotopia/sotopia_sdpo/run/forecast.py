"""Forecast calls, tokens and money of a plan, without calling anything.

Comes in: work items. Goes out: one line a model. Lengths are those of the stored episodes of the same tags where
there are any, else the assumptions named here.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

from sotopia_sdpo.judge.panel import judges_of
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Usage, cost_of, money
from sotopia_sdpo.run.plan import WorkItem
from sotopia_sdpo.store.base import Store


ASSUMED_TURNS = 14
BACKGROUND_TOKENS = 700
TURN_TOKENS = 45
EVALUATOR_FRAME_TOKENS = 1200
VERDICT_TOKENS = 1100
LOOKED_AT = 50


def turns_per_episode(store: Store, items: Sequence[WorkItem]) -> float:
    """Return the mean number of turns of stored episodes of these tags, or the assumption."""
    tags = dict.fromkeys(item.key.tag for item in items)
    lengths = [len(e.messages) - 1 for tag in tags for e in islice(store.episodes(tag, "scored"), LOOKED_AT)]
    return sum(lengths) / len(lengths) if lengths else ASSUMED_TURNS


def usage_by_model(items: Sequence[WorkItem], turns: float) -> dict[ModelSpec, Usage]:
    """Return what every model will be asked for."""
    found: dict[ModelSpec, Usage] = defaultdict(Usage)
    for item in items:
        if item.stored is None or item.stored.status != "unscored":
            for turn in range(len(item.history), max(len(item.history) + 1, round(turns))):
                model = item.side(turn % 2).model
                found[model] = found[model].plus(Usage(1, BACKGROUND_TOKENS + TURN_TOKENS * turn, TURN_TOKENS))
        prompt = EVALUATOR_FRAME_TOKENS + BACKGROUND_TOKENS + round(TURN_TOKENS * turns)
        for judge in judges_of(item.run.evaluator):
            found[judge] = found[judge].plus(Usage(1, prompt, VERDICT_TOKENS))
    return dict(found)


def forecast_lines(store: Store, items: Sequence[WorkItem]) -> list[str]:
    """Return the forecast, a line for every model and one for the sum."""
    turns = turns_per_episode(store, items)
    total, lines = Usage(), []
    for model, usage in usage_by_model(items, turns).items():
        price = None if model.is_custom else cost_of(model.api_name, usage.prompt_tokens, usage.completion_tokens)
        usage = usage._replace(cost=price)
        total = total.plus(usage)
        lines.append(f"  {model.name}: {_amount(usage)}")
    lines.append(f"about {_amount(total)}, at {turns:.0f} turns an episode")
    return lines


def _amount(usage: Usage) -> str:
    tokens = f"{usage.prompt_tokens:,} prompt and {usage.completion_tokens:,} completion tokens"
    return f"{usage.calls:,} calls, {tokens}, {money(usage.cost)}"
