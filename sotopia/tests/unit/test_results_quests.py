"""Results of quests: the score and the share solved, by kinds; differences paired by quest."""

import json
from pathlib import Path

import pytest
from test_run_quests import episode_of, run_of

from sotopia_sdpo.envs.protocol import Quest
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs.continuations import _stored
from sotopia_sdpo.pairs.quests import read_stored, record_of
from sotopia_sdpo.pairs.records import LoggedSide
from sotopia_sdpo.results.compare import compare
from sotopia_sdpo.results.scores import KINDS, QUESTS, Score, results_of, score_of
from sotopia_sdpo.results.stats import clustered
from sotopia_sdpo.results.tables import kinds_table, results_table
from sotopia_sdpo.run.quests import items_of_quests
from sotopia_sdpo.store import open_store


def scores(points: dict[str, list[float]], tag: str = "t") -> list[Score]:
    """The scores of quests 0, 1, … of some kinds."""
    quests = [Quest(kind, number) for kind, found in points.items() for number in range(len(found))]
    items = items_of_quests(run_of("all", tag=tag), quests)
    values = [value for found in points.values() for value in found]
    return [score_of(episode_of(item, value)) for item, value in zip(items, values, strict=True)]


def test_kinds_are_the_clusters_and_the_highest_score_is_solved() -> None:
    """Means 50 of four quests, 100 twice: half are solved."""
    found = scores({"chest": [100, 0], "lamp": [100, 0]})
    (result,) = results_of(found, ())
    assert result.clusters == KINDS and list(result.estimates) == ["score", "solved"]
    assert result.estimates["solved"].mean == 0.5 and result.estimates["score"].clusters == 2
    expected = clustered([("chest", 100.0), ("chest", 0.0), ("lamp", 100.0), ("lamp", 0.0)])
    assert result.estimates["score"] == expected
    assert "  kinds of quests                        2" in results_table("title", [result])
    assert [line.split() for line in kinds_table(found)] == [
        ["kind", "episodes", "score", "solved"],
        ["game/chest", "2", "50.00", "0.50"],
        ["game/lamp", "2", "50.00", "0.50"],
    ]


def test_a_negative_whose_episode_failed_meanwhile_is_one_line(tmp_path: Path) -> None:
    """An episode that was deleted and is played again takes the name of the one before."""
    (item,) = items_of_quests(run_of("neg"), [Quest("chest", 0)])
    path, played = tmp_path / "negatives.json", episode_of(item)
    record = record_of(played)
    path.write_text(json.dumps([record.dump()]))
    with open_store(f"sqlite:///{tmp_path}/quests.db") as store:
        store.put_entries([("episodes", played)])
        assert [one.episode for one in read_stored(path, LoggedSide, store, "x.py")] == [played.pk]
        failed = {"status": "failed", "failure": "why", "rewards": [], "messages": [], "pk": played.pk}
        store.put_entries([("episodes", episode_of(item, **failed))])
        with pytest.raises(
            UserError, match=f"negatives.json record 0: its episode {played.pk} cannot be used .it has"
        ):
            read_stored(path, LoggedSide, store, "x.py")
        with pytest.raises(UserError, match="has another dialogue in"):
            _stored(store, record)


def test_quests_are_the_clusters_where_all_are_of_one_kind() -> None:
    found = scores({"chest": [100, 0, 50]})
    (result,) = results_of(found, ())
    assert result.clusters == QUESTS and result.estimates["score"].clusters == 3 and kinds_table(found) == []


def test_two_runs_are_paired_by_quest() -> None:
    """B is better by 50 in each quest that both have, so the interval has no width."""
    first, second = scores({"chest": [0, 50], "lamp": [50]}), scores({"chest": [50, 100, 0], "lamp": [100]}, "u")
    (found,) = compare(first, second, ())
    gap = found.difference["score"]
    assert found.combos == 3 and (gap.mean, gap.low, gap.high, gap.clusters) == (50, 50, 50, 2)


def test_an_episode_that_does_not_say_its_range_is_refused() -> None:
    (item,) = items_of_quests(run_of(), [Quest("chest", 1)])
    for found in (None, {"low": 0}, {"name": "score", "low": "much"}):
        with pytest.raises(UserError, match="does not say what it came to"):
            score_of(episode_of(item, settings={**item.run.settings(), "outcome": found}))
