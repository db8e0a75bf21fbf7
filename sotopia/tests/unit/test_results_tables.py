"""Scores become figures: whose they are, over which scenarios, and what two runs differ by."""

import json
from pathlib import Path

import pytest
from small_world import finished, make_run, small_store

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.dimensions import DIMENSIONS
from sotopia_sdpo.judge.rejudge import new_tag
from sotopia_sdpo.results.compare import compare, comparison_table
from sotopia_sdpo.results.scores import Score, results_of, score_of, scores_of
from sotopia_sdpo.results.tables import results_table, upstream_row, write_jsonl
from sotopia_sdpo.run.plan import items_of_combos
from sotopia_sdpo.world.combos import Combo


def combos(count: int) -> list[Combo]:
    """Make combos, two a scenario."""
    return [Combo(f"e{i // 2}", ("p0", f"p{1 + i % 2}")) for i in range(count)]


def test_self_chat_counts_the_mean_of_both_sides() -> None:
    (item,) = items_of_combos(make_run(), combos(1))
    episode = finished(item)
    episode.rewards[1] = (1.0, {**episode.rewards[1][1], "goal": 2.0})
    assert score_of(episode).values["goal"] == 4.5
    first, second = items_of_combos(make_run(partner="p"), combos(1))
    for item, goal in ((first, 7.0), (second, 2.0)):
        found = finished(item)
        found.rewards[1] = (1.0, {**found.rewards[1][1], "goal": 2.0})
        assert score_of(found).values["goal"] == goal


def test_all_and_hard(tmp_path: Path) -> None:
    """Scenarios e0 and e1 with goals 4, 6 and 8, 10: mean 7; the hard one, e1, 9."""
    store = small_store(tmp_path)
    for item, goal in zip(items_of_combos(make_run(tag="t"), combos(4)), (4.0, 6.0, 8.0, 10.0), strict=True):
        store.put_episode(finished(item, goal=goal))
    scores = scores_of(store, ["t"])
    whole, hard = results_of(scores, {"e1"})
    assert (whole.subset, whole.estimates["goal"].mean, whole.estimates["goal"].values) == ("all", 7.0, 4)
    assert (hard.subset, hard.estimates["goal"].mean, hard.estimates["goal"].clusters) == ("hard", 9.0, 1)
    table = results_table("title", [whole, hard])
    assert "goal" in table.splitlines()[2] and "7.00" in table and "9.00  -" in table
    assert [result.subset for result in results_of(scores, {"e0", "e1"})] == ["hard"]
    assert [result.subset for result in results_of(scores, ())] == ["all"]


def test_a_paired_difference_by_hand(tmp_path: Path) -> None:
    """Differences 1 and 3 in two scenarios: mean 2, margin 12.7062 * sqrt(2 / 4 * 2) = 12.7062."""
    store = small_store(tmp_path)
    for tag, goals in (("A", (5.0, 5.0, 1.0)), ("B", (6.0, 8.0))):
        chosen = [Combo(f"e{i}", ("p0", "p1")) for i in range(len(goals))]
        for item, goal in zip(items_of_combos(make_run(tag=tag), chosen), goals, strict=True):
            store.put_episode(finished(item, goal=goal))
    (found,) = compare(scores_of(store, ["A"]), scores_of(store, ["B"]), ())
    gap = found.difference["goal"]
    assert (found.combos, gap.mean, found.first["goal"].mean, found.second["goal"].mean) == (2, 2.0, 5.0, 7.0)
    assert gap.high - gap.mean == pytest.approx(12.7062, abs=1e-3)
    assert "+2.00  [-10.71, 14.71]" in comparison_table(("A", "B"), found)
    assert compare(scores_of(store, ["A"]), [], ()) == []


def test_trials_of_a_combo_are_averaged_before_pairing(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    for tag, goals in (("A", (4.0, 6.0)), ("B", (7.0, 7.0))):
        run = make_run(tag=tag, trials=2)
        for item, goal in zip(items_of_combos(run, combos(1)), goals, strict=True):
            store.put_episode(finished(item, goal=goal))
    (found,) = compare(scores_of(store, ["A"]), scores_of(store, ["B"]), ())
    assert found.combos == 1 and found.difference["goal"].mean == 2.0


def test_jsonl_has_upstreams_columns(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    for item in items_of_combos(make_run(tag="t"), combos(4)):
        episode = finished(item)
        full = {d.name: float(d.low) for d in DIMENSIONS} | {"overall_score": 0.0}
        store.put_episode(episode.model_copy(update={"rewards": [(0.0, full), (0.0, full)]}))
    (result,) = results_of(scores_of(store, ["t"]), ())
    paths = write_jsonl(tmp_path / "out", "custom/org/base@http://h:1/v1/", {"all": [upstream_row("m", result)]})
    assert [path.name for path in paths] == ["models_vs_base.jsonl"]
    row = json.loads(paths[0].read_text())
    assert row["model_name"] == "m" and row["SOC [-10, 0]"] == -10 and row["details"]["goal"]["scenarios"] == 2


def test_what_lacks_a_dimension_has_no_column_of_it(tmp_path: Path) -> None:
    result, _ = results_of([Score(e, e, 0, {"goal": 6.0}, False) for e in ("e0", "e1")], {"e1"})
    assert list(upstream_row("m", result)) == ["model_name", "GOAL [0, 10]", "details"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written .* name another folder"):
        write_jsonl(tmp_path / "file", "p", {"all": []})


def test_the_tag_of_new_scores() -> None:
    (item,) = items_of_combos(make_run(), combos(1))
    model = "custom/m@http://h/v1"
    assert new_tag(finished(item).head, "gpt-4o") == f"benchmark_{model}_{model}_gpt-4o_all_trial0"
    (named,) = items_of_combos(make_run(tag="mine"), combos(1))
    assert new_tag(finished(named).head, "gpt-4o") == "mine_by_gpt-4o"
