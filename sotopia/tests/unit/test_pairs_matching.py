"""Sessions find their negatives by what they say of themselves, and the best one wins."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs_world import TEMPLATE, episode, row
from small_world import small_store

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs.matching import (
    NoPositive,
    best_of,
    by_start,
    check_negatives,
    has_same_partner,
    pair_of,
    start_of_negative,
)
from sotopia_sdpo.pairs.records import LocatedSide, PairedSide, PlayedSide
from sotopia_sdpo.pairs.sides import EpisodeSide, record_of
from sotopia_sdpo.pairs.tally import Tally


SAID = ("a", "b", "c", "d", "e")


def negative(location: int | None = 3, **changes: Any) -> PlayedSide:
    """Make a negative, located or not."""
    data = row(*SAID, **{"agent_model": "agent", "partner_model": "partner", **changes})
    return PlayedSide(**data) if location is None else LocatedSide(**data, location=location, reason="why here")


def session(*said: str, goal: float = 6, relationship: float = 1, trial: int = 0, **changes: Any) -> EpisodeSide:
    """Make a session that starts from the negative."""
    origin = {"source_episode": "E", "agent_position": 0, "location": 3, "trial": trial}
    fields = {"pk": f"T{trial}", "scores": ((goal, relationship),) * 2, **origin, **changes}
    found = episode(said=said or ("a", "b", "x"), **fields)
    return EpisodeSide(found, record_of(found, found.position, TEMPLATE))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"source_episode": None}, "that do not say which negative they start from"),
        ({"agent_position": None, "models": ["judge", "m", "m"]}, "that do not say which negative they start from"),
        ({"source_episode": "F"}, "that start from another negative"),
        ({"location": 1}, "that start from another negative"),
        ({"location": None}, "that start from another negative"),
        ({"environment": "e1"}, "that start from another negative"),
        ({"agents": ["p1", "p0"]}, "that start from another negative"),
        ({"agent_position": 1}, "that start from another negative"),
    ],
)
def test_a_session_belongs_to_the_negative_that_it_names(changes: dict[str, Any], reason: str | None) -> None:
    tally = Tally("sessions")
    side = session(**changes)
    found = by_start([side], [negative()], tally)
    assert found == {start_of_negative(negative()): [] if reason else [side]}
    assert tally.dropped == ({reason: 1} if reason else {}) and tally.total == 1


@given(
    st.lists(st.tuples(st.sampled_from("EFG"), st.integers(0, 1), st.sampled_from([1, 3])), max_size=8),
    st.integers(0, 9),
)
def test_places_in_a_list_mean_nothing(origins: list[tuple[str, int, int]], seed: int) -> None:
    negatives = [negative(at, episode=pk, agent_position=who) for pk, who, at in dict.fromkeys(origins)]
    sides = [
        session("a", "b", "c", "d", source_episode=pk, agent_position=who, location=at, trial=trial)
        for trial, (pk, who, at) in enumerate(origins)
    ]
    shuffled = random.Random(seed).sample(sides, len(sides))
    found = by_start(shuffled, negatives, Tally("sessions"))
    for one in negatives:
        expected = {
            side.episode.pk
            for side, origin in zip(sides, origins, strict=True)
            if origin == (one.episode, one.agent_position, one.location)  # type: ignore[attr-defined]
        }
        assert {side.episode.pk for side in found[start_of_negative(one)]} == expected


SCORE = st.integers(3, 6)


@given(st.lists(st.tuples(SCORE, SCORE, st.booleans()), max_size=6), st.integers(0, 9))
def test_the_best_is_the_best(sessions: list[tuple[int, int, bool]], seed: int) -> None:
    """The oracle looks at every comparable session: a higher goal, or the same with a higher relationship, wins."""
    sides = [
        session("a", "b", "x" if is_other else "c", goal=goal, relationship=relationship, trial=trial)
        for trial, (goal, relationship, is_other) in enumerate(sessions)
    ]
    best = None
    for side in sides:
        if side.record.conversations[3] == negative().conversations[3]:
            continue
        one = (side.record.goal, side.record.relationship)
        if one[0] > (best or negative()).goal or (
            one[0] == (best or negative()).goal and one[1] > (best or negative()).relationship
        ):
            best = side.record
    shuffled = random.Random(seed).sample(sides, len(sides))
    if best is None:
        with pytest.raises(NoPositive):
            best_of(negative(), shuffled)
    else:
        assert best_of(negative(), shuffled).record == best


@pytest.mark.parametrize("models", [["judge", "agent", "else"], ["judge", "new", "new"]])
def test_another_partner_counts_only_where_there_is_no_session_with_the_same(models: list[str]) -> None:
    """The session with the other partner is the better one, and trial 0."""
    other, same = session(goal=9, models=models, trial=0), session(goal=7, trial=1)
    assert best_of(negative(), [other, same]) is same
    assert best_of(negative(), [other]) is other
    assert not has_same_partner(negative(), other.record) and has_same_partner(negative(), same.record)


@pytest.mark.parametrize(
    ("one", "sides", "fault"),
    [
        (negative(), [], "without a new session"),
        (negative(), [session(goal=5, relationship=1)], "with no better session"),
        (negative(), [session(goal=4, relationship=5)], "with no better session"),
        (negative(), [session(*SAID)], "with no difference (all their sessions)"),
        (negative(), [session("a", "x", "y")], "that differ first in the partner's turn (all their sessions)"),
        (negative(), [session("x", "b", "y")], "that part before the located turn (all their sessions)"),
        (negative(), [session("a", "b", "c")], "with one side over before they differ (all their sessions)"),
        (negative(), [session(*SAID), session(*SAID, trial=1)], "with no difference (all their sessions)"),
        (
            negative(),
            [session(*SAID), session("a", "b", "c", trial=1)],
            "with no comparable session, for several reasons",
        ),
        (negative(None), [session(*SAID, location=None)], "with no difference (all their sessions)"),
    ],
)
def test_a_negative_without_a_positive_says_why(one: PlayedSide, sides: list[EpisodeSide], fault: str) -> None:
    with pytest.raises(NoPositive) as caught:
        best_of(one, sides)
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("one", "side"),
    [
        (negative(), session("a", "b", "c", "d", "x")),
        (negative(), session("a", "b", "x", models=[])),
        (negative(), session("a", "b", "x", models=["judge", "new", "partner"])),
        (negative(agent_model=None, partner_model=None), session(models=["judge", "agent", "else"])),
        (negative(agent_model="old", partner_model="old"), session(models=["judge", "new", "new"])),
        (negative(None), session("x", "y", "z", location=None)),
        (negative(None), session("a", "y", "z", location=None)),
        (negative(), session(goal=5, relationship=2)),
    ],
)
def test_what_can_be_compared(one: PlayedSide, side: EpisodeSide) -> None:
    assert best_of(one, [side]) == side


def test_the_earliest_of_equal_trials_wins_over_what_cannot_be_compared() -> None:
    sides = [session("a", "b", "x", trial=3), session("a", "b", "y", trial=2), session(*SAID, goal=10, trial=1)]
    assert best_of(negative(), sides).episode.trial == 2


def test_the_facts_of_a_pair_stand_on_both_sides() -> None:
    side = session(goal=8, relationship=-1)
    worse, better = (record.dump() for record in pair_of(negative(note=None), side.record))
    facts = {"pair": "E/0@3", "location": 3, "location_reason": "why here", "goal_gain": 3, "relationship_gain": -2}
    assert {name: worse[name] for name in facts} == {name: better[name] for name in facts} == facts
    assert (worse["side"], worse["episode"], worse["goal"], worse["note"]) == ("negative", "E", 5, None)
    assert (better["side"], better["episode"], better["goal"]) == ("positive", "T0", 8)
    assert "reason" not in worse and "reason" not in better
    assert PairedSide.model_validate(worse).dump() == worse


def test_a_pair_of_whole_sessions_has_no_location() -> None:
    worse, better = (record.dump() for record in pair_of(negative(None), session(location=None).record))
    assert worse["pair"] == better["pair"] == "E/0"
    assert not {"location", "location_reason"} & (worse.keys() | better.keys())


def test_a_negative_may_hold_fields_of_a_pair() -> None:
    """As one that was taken out of a file of pairs."""
    old = dict(side="positive", pair="X", goal_gain=9, relationship_gain=9)
    worse, _ = pair_of(negative(**old), session().record)
    assert (worse.side, worse.pair, worse.goal_gain) == ("negative", "E/0@3", 1)


@pytest.mark.parametrize(
    ("changes", "stored", "fault"),
    [
        ({}, {}, None),
        ({"agent_model": "x"}, {}, None),
        ({}, {"pk": "F"}, "its episode E is not in {url}"),
        ({}, {"scores": ()}, "its episode E cannot be used (unscored episode)"),
        ({}, {"scores": (), "status": "failed", "failure": "f"}, "its episode E cannot be used (failed episode)"),
        ({}, {"said": ("a", "b", "x")}, "conversations differs from its episode E"),
        ({"env": "e1"}, {}, "env differs from its episode E"),
        ({"agents": ["p1", "p0"]}, {}, "agents differs from its episode E"),
        ({"goal": 6}, {}, "goal differs from its episode E"),
        ({"relationship": 0}, {}, "relationship differs from its episode E"),
        ({"agent_position": 1}, {}, "conversations differs from its episode E"),
        ({}, {"messages": []}, "its episode E cannot be used (turn 0: expected an observation for each of two agents, found 0)"),
    ],
)  # fmt: skip
def test_negatives_are_checked_against_their_episodes(
    tmp_path: Path, changes: dict[str, Any], stored: dict[str, Any], fault: str | None
) -> None:
    with small_store(tmp_path) as store:
        store.put_episode(episode(said=SAID, pk="G"))
        store.put_episode(episode(**{"said": SAID, **stored}))
        negatives = [negative(episode="G"), negative(**changes)]
        if fault is None:
            check_negatives(Path("f"), negatives, store, TEMPLATE, "w.py")
            return
        with pytest.raises(UserError) as caught:
            check_negatives(Path("f"), negatives, store, TEMPLATE, "w.py")
    assert str(caught.value) == f"f record 1: {fault.format(url=store.url)}; fix it or rerun w.py"
