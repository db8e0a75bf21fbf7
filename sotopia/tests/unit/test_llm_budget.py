"""A budget is never exceeded, whatever is in flight, and nobody waits for a call that is not there."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm import budget as budgets
from sotopia_sdpo.llm.budget import Budget, BudgetReached
from sotopia_sdpo.llm.spec import ModelSpec, parse_model


PAID = ModelSpec("gpt", "gpt")
CALLS = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1), st.integers(0, 3)), max_size=12)
"""By call: what it can cost at most, the part of it that it does cost, and how long it takes."""


@pytest.fixture(autouse=True, scope="module")
def prices() -> Iterator[None]:
    """A token of an answer costs 10 cents, one of a question 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            budgets, "cost_of", lambda name, asked, told: 0.01 * asked + 0.1 * told if name == "gpt" else None
        )
        yield


def run(limit: float, calls: list[tuple[int, float, int]], fail_every: int = 0) -> tuple[Budget, list[str]]:
    """Make calls at once; each may be the last straw at no time."""
    budget = Budget(limit, PAID)
    held: list[float] = []

    async def one(number: int, most: int, share: float, steps: int) -> str:
        bound = 0.1 * most
        try:
            async with budget.room_for("", most):
                held.append(bound)
                assert budget.spent + sum(held) <= limit + 1e-9
                for _ in range(steps):
                    await asyncio.sleep(0)
                held.remove(bound)
                if fail_every and number % fail_every == 0:
                    raise ConnectionError
                budget.spend(bound * share)
        except BudgetReached:
            assert not held and budget.spent + bound > limit
            return "refused"
        except ConnectionError:
            return "failed"
        return "made"

    async def crowd() -> list[str]:
        return await asyncio.gather(*(one(number, *call) for number, call in enumerate(calls)))

    return budget, asyncio.run(asyncio.wait_for(crowd(), 5))


@given(st.floats(0, 3), CALLS, st.integers(0, 3))
def test_a_budget_is_never_exceeded(limit: float, calls: list[tuple[int, float, int]], fail_every: int) -> None:
    budget, found = run(limit, calls, fail_every)
    assert budget.spent <= limit + 1e-9 and len(found) == len(calls)
    if 0.1 * sum(most for most, _, _ in calls) <= limit - 1e-9:
        assert "refused" not in found


def test_nobody_waits_for_a_rest_of_rounding() -> None:
    """0.1 + 0.2 + 0.3 - 0.1 - 0.2 - 0.3 is not 0 in floats."""
    assert run(1.0, [(1, 0, 0), (2, 0, 0), (3, 0, 0), (11, 1, 0)])[1] == ["made", "made", "made", "refused"]


def test_a_call_waits_where_others_may_turn_out_cheaper() -> None:
    assert run(1.0, [(8, 0.1, 3), (8, 1, 0)])[1] == ["made", "made"]
    assert run(1.0, [(8, 0.5, 3), (8, 1, 0)])[1] == ["made", "refused"]


@pytest.mark.parametrize(("text", "size"), [("ab", 2), ("中", 3), ("", 0), ("\ud800", 1)])
def test_a_token_is_a_byte_at_least(text: str, size: int) -> None:
    async def fits(limit: float) -> bool:
        try:
            async with Budget(limit, PAID).room_for(text, 1):
                return True
        except BudgetReached:
            return False

    bound = 0.1 + 0.01 * size
    assert asyncio.run(fits(bound)) and not asyncio.run(fits(bound - 1e-6))


def test_without_a_limit_anything_goes() -> None:
    async def many() -> Any:
        budget = Budget(None, parse_model("custom/m@http://h/v1"))
        async with budget.room_for("", 10**9), budget.room_for("", 10**9):
            budget.spend(None)
            budget.spend(3.0)
        return budget.spent

    assert asyncio.run(many()) == 3.0


def test_a_call_of_unknown_cost_counts_as_the_most_that_it_can_have_cost() -> None:
    """8 tokens of 10 cents; a second call does not fit into 1 dollar."""

    async def two() -> float:
        budget = Budget(1.0, PAID)
        async with budget.room_for("", 8) as most:
            budget.spend(None, most)
        with pytest.raises(BudgetReached):
            async with budget.room_for("", 8):
                pass
        return budget.spent

    assert asyncio.run(two()) == 0.8


@pytest.mark.parametrize("name", ["custom/gpt@http://h/v1", "strange"])
def test_a_budget_needs_a_price(name: str) -> None:
    fault = f"--budget 2.5: no price is known for {name}; leave it out \\(--limit bounds the records\\)"
    with pytest.raises(UserError, match=f"^{fault}$"):
        Budget(2.5, parse_model(name))
