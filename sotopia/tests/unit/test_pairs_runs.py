"""Which runs are meant: found by what was typed, or refused with what there is."""

import re
from pathlib import Path
from typing import Any

import pytest
from pairs_world import episode
from small_world import small_store

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs.runs import UNKNOWN, Wanted, choose_runs, run_of, stored_runs
from sotopia_sdpo.play.sources import task_of_episode
from sotopia_sdpo.store.base import Store


A, B, J, K = "custom/a@http://h/v1", "gpt-4o", "judge", "other-judge"


def store_of(folder: Path, *tags: tuple[str, list[str]], **changes: Any) -> Store:
    """Make a store with an episode or more of every tag."""
    store = small_store(folder)
    for number, (tag, models) in enumerate(tags):
        for copy in range(2):
            store.put_episode(episode(f"{number}-{copy}", tag=tag, models=models, **changes))
    return store


WORLD = (
    ("benchmark_a_a_judge_neg_trial0", [J, A, A]),
    ("benchmark_a_gpt_judge_neg_trial0", [J, A, B]),
    ("benchmark_b_a_other_neg_trial1", [K, B, A]),
    ("benchmark_b_a_judge_sft_trial0", [J, B, A]),
    ("mine", [J, B, B]),
)


@pytest.mark.parametrize(
    ("wanted", "mixed", "found"),
    [
        (Wanted(models=("custom/a",), evaluator=J), False, [0, 1]),
        (Wanted(models=("custom/a@http://moved:9/v1",)), False, [0, 1]),
        (Wanted(models=(A,), partner=B), False, [1]),
        (Wanted(models=(B,)), False, [2]),
        (Wanted(evaluator=K), False, [2]),
        (Wanted(partner=A), True, [0, 2]),
        (Wanted(models=(A, B)), True, [0, 1, 2]),
        (Wanted(), True, [0, 1, 2]),
        (Wanted(tags=("mine", WORLD[2][0], "mine")), False, [4, 2]),
        (Wanted(models=(B,), tags=(WORLD[0][0],)), False, [0]),
    ],
)
def test_runs_are_found_by_what_was_typed(tmp_path: Path, wanted: Wanted, mixed: bool, found: list[int]) -> None:
    with store_of(tmp_path, *WORLD) as store:
        assert [run.tag for run in choose_runs(store, "neg", wanted, mixed)] == [WORLD[i][0] for i in found]


LISTED = "custom/a with custom/a, judged by judge; custom/a with gpt-4o, judged by judge; gpt-4o with custom/a, judged by other-judge"


@pytest.mark.parametrize(
    ("task", "wanted", "fault"),
    [
        ("hard", Wanted(), "has no episodes of task hard; `sotopia benchmark --task hard …` samples them"),
        ("neg", Wanted(models=("x",)), f"has no such episodes of task neg; it has {LISTED}"),
        ("neg", Wanted(models=(A,), evaluator=K), f"has no such episodes of task neg; it has {LISTED}"),
        ("neg", Wanted(), "the episodes of task neg are of 2 agents: custom/a; gpt-4o; choose one with --models"),
        ("neg", Wanted(models=(A, B), evaluator=J, partner=A), None),
        ("neg", Wanted(models=(A, B), partner=A), "the episodes of task neg are of 2 agents: custom/a; gpt-4o; choose one with --models"),
        ("neg", Wanted(tags=("mine", "x")), "--tag x: {url} has no episodes with this tag; it has benchmark_a_a_judge_neg_trial0; "),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(tmp_path: Path, task: str, wanted: Wanted, fault: str | None) -> None:
    with store_of(tmp_path, *WORLD) as store:
        if fault is None:
            assert [run.agent for run in choose_runs(store, task, wanted)] == ["custom/a"]
            return
        with pytest.raises(UserError, match=re.escape(fault.format(url=store.url))) as caught:
            choose_runs(store, task, wanted)
    assert "\n" not in str(caught.value)


def test_two_evaluators_are_refused(tmp_path: Path) -> None:
    with store_of(tmp_path, ("a_neg_trial0", [J, A, A]), ("b_neg_trial0", [K, A, A])) as store:
        fault = "the episodes of task neg are of 2 evaluators: judge; other-judge; choose one with --evaluator-model"
        with pytest.raises(UserError, match=f"^{fault}$"):
            choose_runs(store, "neg", Wanted())
        assert len(choose_runs(store, "neg", Wanted(), mixed_agents=True)) == 2


def test_an_empty_store(tmp_path: Path) -> None:
    with small_store(tmp_path) as store:
        assert stored_runs(store) == []
        with pytest.raises(UserError, match="has no episodes of task neg"):
            choose_runs(store, "neg", Wanted())
        with pytest.raises(UserError, match="has no episodes with this tag; it has none$"):
            choose_runs(store, "neg", Wanted(tags=("t",)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("agent", "partner", "judge")),
        ({"agent_position": 1}, ("partner", "agent", "judge")),
        ({"models": ["j@x", A, "b@y"]}, ("custom/a", "b", "j")),
        ({"models": []}, (UNKNOWN,) * 3),
        ({"models": ["j", "a"]}, (UNKNOWN,) * 3),
        ({"tag": "benchmark_b_a_j_neg_trial0", "models": ["j", "a", "b"]}, ("b", "a", "j")),
    ],
)
def test_who_played(changes: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert run_of(episode(**changes))[2:] == (*expected, None)


@pytest.mark.parametrize(
    ("tag", "settings", "task"),
    [
        ("benchmark_a_b_c_neg_trial0", {}, "neg"),
        ("benchmark_a_b_c_hpos_trial12", {}, "hpos"),
        ("benchmark_a_b_c_neg_trial0", {"task": "sft"}, "sft"),
        ("mine", {"task": "pos"}, "pos"),
        ("mine", {"task": None}, ""),
        ("benchmark_neg_trial0_x", {}, ""),
        ("benchmark_a_b_c_xneg_trial0", {}, ""),
    ],
)
def test_which_task_an_episode_is_of(tag: str, settings: dict[str, Any], task: str) -> None:
    assert task_of_episode(episode(tag=tag, settings=settings)) == task
