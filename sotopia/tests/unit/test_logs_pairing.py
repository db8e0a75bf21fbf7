"""Failed and successful trials: who is paired with whom, and from where they share a history."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs.messages import function_call
from sotopia_sdpo.logs.pairing import Bounds, LogPair, bounds_of, from_same_state, shared_pairs, trials_of, whole_pairs
from sotopia_sdpo.outcomes import Outcome
from sotopia_sdpo.pairs.records import LoggedSide
from sotopia_sdpo.pairs.segments import NoSegment, parting
from sotopia_sdpo.pairs.tally import Tally


REWARD = Bounds("reward", 1, 1)


def turns(spelled: str) -> list[dict[str, str]]:
    """Spell a dialogue: `h:` the partner, `a:` the agent, `c:NAME` a call and `r:` its result, apart by spaces."""
    tags = {"s": "system", "h": "human", "a": "gpt", "c": "function_call", "r": "observation"}
    pairs = [word.split(":") for word in spelled.split()]
    return [
        {"from": tags[tag], "value": function_call("", [{"name": text, "arguments": {}}]) if tag == "c" else text}
        for tag, text in pairs
    ]


def side(name: str, reward: float | None, spelled: str = "h:u a:x", task: str = "t", **more: Any) -> LoggedSide:
    outcomes = [] if reward is None else [Outcome("reward", reward, 0, 1)]
    record = {
        "conversations": turns(spelled),
        "episode": name,
        "task": task,
        "trial": 0,
        "source": "log",
        "outcomes": outcomes,
    }
    return LoggedSide(**{**record, **more})


def names(pairs: Sequence[Any]) -> list[str]:
    return [f"{one.negative.name}{one.positive.name}" for one in pairs]


def test_every_failed_trial_with_every_successful_one_of_its_task() -> None:
    sides = [
        side("a", 0),
        side("b", 1),
        side("c", 0.5),
        side("d", 1),
        side("e", 0, task="u"),
        side("f", None),
        side("h", 1, source="other"),
        side("g", 1, task="v"),
    ]
    tally = Tally("pairs")
    assert names(trials_of(sides, REWARD, tally)) == ["ab", "ad", "cb", "cd"]
    assert tally.notes == {
        "dialogues are neither failed nor successful": 1,
        "tasks lack a failed or a successful trial": 3,
    }


def test_trials_with_other_tools_are_not_compared() -> None:
    tally = Tally("pairs")
    assert names(
        trials_of(
            [side("a", 0, tools=[{"name": "f"}]), side("b", 1), side("c", 1, tools=[{"name": "f"}])], REWARD, tally
        )
    ) == ["ac"]
    assert tally.dropped == {"with different tools": 1}


def test_a_pair_of_whole_dialogues() -> None:
    tail = [{"from": "human", "value": "bye"}]
    both = [side("a", 0.25, "h:u a:x", tail=tail), side("b", 1, "h:v a:y", agent_model="m"), side("c", 1, "h:u a:x")]
    tally = Tally("pairs")
    (found,) = whole_pairs(trials_of(both, REWARD, tally), tally)
    shared = {"pair": "a:b", "outcome_gains": {"reward": 0.75}}
    assert found.positive.dump() == {**both[1].dump(), **shared, "side": "positive"}
    assert {**found.negative.dump(), "tail": tail} == {**both[0].dump(), **shared, "side": "negative"}
    assert found.negative.tail is None
    assert tally.line() == "kept 1 of 2 pairs (1 with no difference)"


@pytest.mark.parametrize(
    "typed, expected",
    [
        ((None, None, None), Bounds("reward", 1, 1)),
        ((None, 0.5, None), Bounds("reward", 0.5, 1)),
        ((None, None, 0.8), Bounds("reward", 0.8, 0.8)),
        ((None, 0.2, 0.8), Bounds("reward", 0.2, 0.8)),
        (("steps", None, 7), Bounds("steps", 7, 7)),
        (("steps", 7, None), Bounds("steps", 7, 7)),
        (("steps", None, None), "the range of steps is not known; say with --at-least"),
        ((None, 0.8, 0.2), "--below 0.8 is more than the 0.2 of a success"),
    ],
)
def test_bounds(typed: Any, expected: Any) -> None:
    sides = [side("a", None, outcomes=[Outcome("steps", 3), Outcome("reward", 1, 0, 1)])]
    if isinstance(expected, Bounds):
        assert bounds_of(sides, *typed) == expected
    else:
        with pytest.raises(UserError, match=expected):
            bounds_of(sides, *typed)


def test_which_outcome_counts_is_asked_for_where_it_is_not_clear() -> None:
    several = [side("a", None, outcomes=[Outcome("steps", 3), Outcome("tests", 1, 0, 1)])]
    with pytest.raises(UserError, match="the outcomes steps, tests; say which counts with --outcome"):
        bounds_of(several, None, None, None)
    assert bounds_of(several, "tests", None, None) == Bounds("tests", 1, 1)
    assert bounds_of([side("a", None, outcomes=[Outcome("tests", 1, 0, 1)])], None, None, None).outcome == "tests"


def shared(negative: str, positive: str, by_state: bool = False, **more: Any) -> tuple[list[LogPair], Tally]:
    tally = Tally("pairs")
    trials = trials_of([side("a", 0, negative), side("b", 1, positive, **more)], REWARD, tally)
    return list(shared_pairs(trials, tally, by_state)), tally


def test_a_history_that_is_truly_shared() -> None:
    (found,), _ = shared("s:p h:u c:f r:1 a:x h:v a:y", "s:p h:u c:f r:1 c:g r:2 a:z", by_state=True)
    assert found.negative.match is None and found.positive.conversations == turns("s:p h:u c:f r:1 c:g r:2 a:z")
    assert parting(found.negative.conversations, found.positive.conversations) == 4
    assert len(shared("a:hi h:u a:x", "a:hello h:u a:y")[0]) == 1


@pytest.mark.parametrize(
    "negative, positive, moved",
    [
        # After the last result in common the positive goes on, in the negative's own words before it.
        ("h:u c:f r:1 a:x", "h:v a:w h:id c:f r:1 a:y h:b a:z", "h:u c:f r:1 a:y h:b a:z"),
        (
            "h:u c:f r:1 a:k h:m c:g r:2 a:x",
            "h:v c:f r:1 c:g r:2 c:h r:3 a:y",
            "h:u c:f r:1 a:k h:m c:g r:2 c:h r:3 a:y",
        ),
        # Both go on with equal turns first, and part later.
        ("h:u c:f r:1 a:k h:m a:x", "h:v c:f r:1 a:k h:m a:y", "h:u c:f r:1 a:k h:m a:y"),
        # Another result is another state.
        ("h:u c:f r:1 a:q h:n c:g r:2 a:x", "h:v c:f r:1 c:g r:9 a:y", "h:u c:f r:1 c:g r:9 a:y"),
        # A call that was not answered is none in common.
        ("h:u c:f r:1 c:g", "h:v c:f r:1 c:h r:3 a:y", "h:u c:f r:1 c:h r:3 a:y"),
        ("h:u c:f r:1 h:m a:x", "h:v c:f r:1 h:m a:y", "h:u c:f r:1 h:m a:y"),
    ],
)
def test_a_shared_state(negative: str, positive: str, moved: str) -> None:
    assert shared(negative, positive)[0] == []
    (found,), tally = shared(negative, positive, by_state=True)
    assert found.positive.conversations == turns(moved) and found.negative.conversations == turns(negative)
    assert found.negative.match == found.positive.match == "state" and tally.kept == 1


@pytest.mark.parametrize(
    "negative, positive, reason",
    [
        ("h:u a:x", "h:v a:y", "that share no first call and result"),
        ("h:u c:f r:1 a:x", "h:v c:g r:1 a:y", "that share no first call and result"),
        ("h:u c:f r:1 a:x", "h:v c:f r:2 a:y", "that share no first call and result"),
        ("h:u c:f", "h:v c:f", "that share no first call and result"),
        ("s:p h:u c:f r:1 a:x", "s:q h:v c:f r:1 a:y", "that share no first call and result"),
        ("h:u c:f r:1 a:k h:m a:x", "h:v c:f r:1 a:k h:n a:y", "that differ first in the partner's turn"),
        ("h:u c:f r:1 h:m a:x", "h:v c:f r:1 a:y", "that differ first in the partner's turn"),
        ("h:u c:f r:1 a:x", "h:v c:f r:1 a:x h:m a:y", "with one side over before they differ"),
        ("h:u c:f r:1 a:x", "h:v c:f r:1 a:x", "with no difference"),
    ],
)
def test_no_shared_state(negative: str, positive: str, reason: str) -> None:
    found, tally = shared(negative, positive, by_state=True)
    assert found == [] and tally.dropped == {reason: 1}


def test_a_user_who_calls_tools_makes_the_state_unknown() -> None:
    found, tally = shared("h:u c:f r:1 a:x", "h:v c:f r:1 a:y", by_state=True, user_tools="text")
    assert found == [] and tally.dropped == {"whose user calls tools, so that the agent's calls alone are no state": 1}


BLOCKS = st.lists(st.sampled_from(["a:k h:m", "a:l h:m", "c:f r:1", "c:f r:2", "c:g r:1"]), max_size=5).map(" ".join)


@given(BLOCKS, BLOCKS)
def test_what_is_shared_by_state_is_shared_word_for_word_afterwards(one: str, other: str) -> None:
    """Against a look at all calls: the history holds the shared ones, and the rest is the positive's own end."""
    negative, positive = turns(f"h:u {one} a:x"), turns(f"h:v {other} a:y")
    calls = [[word for word in spelled.split() if word[0] in "cr"] for spelled in (one, other)]
    count = (
        next((i for i, pair in enumerate(zip(*calls, strict=False)) if pair[0] != pair[1]), min(map(len, calls)))
        // 2
        * 2
    )
    if not count:
        with pytest.raises(NoSegment):
            from_same_state(negative, positive)
        return
    moved = from_same_state(negative, positive)
    kept = [turn for turn in moved if turn["from"] in ("function_call", "observation")]
    assert kept == turns(" ".join(calls[1]))
    (place,) = [
        at
        for at, turn in enumerate(negative)
        if sum(t["from"] == "observation" for t in negative[:at]) == count // 2
        and negative[at - 1]["from"] == "observation"
    ]
    assert moved[:place] == negative[:place] and positive[-(len(moved) - place) :] == moved[place:]
