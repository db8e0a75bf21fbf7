"""Which endpoint a call goes to when one of them fails and comes back."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sotopia_sdpo.llm import endpoints as module
from sotopia_sdpo.llm.backends import Unreachable
from sotopia_sdpo.llm.endpoints import REST_S, Endpoints


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that a test sets."""
    clock = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    yield clock


def fail(endpoints: Endpoints) -> str:
    """Make a call that fails; return where it went."""
    with pytest.raises(Unreachable), endpoints.lease("") as url:
        raise Unreachable(url)
    return url


def test_one_that_fails_rests_and_is_then_tried_by_one_call_at_a_time(now: list[float]) -> None:
    """a fails: all go to b; after its rest one goes to a, the next ones to b until that has succeeded."""
    endpoints = Endpoints(("a", "b"))
    with ExitStack() as stack:
        assert fail(endpoints) == "a"
        assert [stack.enter_context(endpoints.lease("")) for _ in range(4)] == ["b"] * 4
        now[0] += REST_S + 0.1
        with endpoints.lease("") as tried:
            assert tried == "a"
            assert [stack.enter_context(endpoints.lease("")) for _ in range(4)] == ["b"] * 4
        assert [stack.enter_context(endpoints.lease("")) for _ in range(4)] == ["a"] * 4


def test_one_that_fails_again_rests_again(now: list[float]) -> None:
    endpoints = Endpoints(("a", "b"))
    with ExitStack() as stack:
        assert fail(endpoints) == "a"
        stack.enter_context(endpoints.lease(""))
        now[0] += REST_S + 0.1
        assert fail(endpoints) == "a"
        assert stack.enter_context(endpoints.lease("")) == "b"


def test_where_all_have_failed_one_is_tried(now: list[float]) -> None:
    endpoints = Endpoints(("a", "b"))
    with ExitStack() as stack:
        assert {fail(endpoints), fail(endpoints)} == {"a", "b"}
        assert stack.enter_context(endpoints.lease("")) in ("a", "b")
