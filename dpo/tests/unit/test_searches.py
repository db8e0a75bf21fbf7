"""Searches go on at their own pace, and find what they would find if each waited for the slowest of all."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sotopia_sdpo.envs.game import Game
from sotopia_sdpo.envs.protocol import Quest
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.pairs import continuations
from sotopia_sdpo.pairs.continuations import Players, played_of, search_all
from sotopia_sdpo.pairs.quests import record_of
from sotopia_sdpo.pairs.records import LoggedSide
from sotopia_sdpo.pairs.values import Search, steepest
from sotopia_sdpo.play.rollout import Choose
from sotopia_sdpo.play.walk import Walk, chat_of
from sotopia_sdpo.run import rollouts
from sotopia_sdpo.run.plan import plan
from sotopia_sdpo.run.quests import QuestRun, items_of_quests
from sotopia_sdpo.run.rollouts import roll_out_all
from sotopia_sdpo.simulated.player import game_of
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.world.tasks import TASKS


MODEL = "custom/m@http://127.0.0.1:9/v1"
PLAYERS = Players(MODEL, 3, Limits(6))


class Pace:
    """Players who err by their seed at every action, and take a while that depends on chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def asking(self, client: Any, player: Any, seed: int, *_: Any) -> Choose:
        drawn = random.Random(seed)

        async def choose(walk: Walk) -> str:
            game = game_of(chat_of(walk))
            assert game is not None
            await asyncio.sleep(self.chance.random() / 300)
            right = game.right()
            if drawn.random() < 0.6:
                return right
            is_last = right.startswith(game.words.verb)
            return right.replace(game.wanted, "red" if game.wanted != "red" else "blue") if is_last else "look"

        return choose


@pytest.fixture
def negatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[LoggedSide]]:
    """Walks that ended badly, with the address of their database; some are of the same quest."""
    monkeypatch.setattr(rollouts, "asking", Pace(0).asking)
    monkeypatch.setattr(continuations, "probe", lambda *_: None)
    url = f"sqlite:///{tmp_path}/negatives.db"
    run = QuestRun("game", TASKS["neg"], parse_model(MODEL), temperature=0.7, max_actions=20, trials=2, tag="neg")
    with open_store(url) as store:
        quests = [Quest(kind, number) for kind in ("chest", "lamp") for number in range(8)]
        roll_out_all(store, items_of_quests(run, quests), Game, Limits(8))
        sides = [record_of(episode) for episode in store.episodes("neg") if episode.outcome.value < 100]
    assert len(sides) >= 4
    return url, sorted(sides, key=lambda side: side.name)[:4]


def copy_of(url: str, path: Path) -> Store:
    store = open_store(f"sqlite:///{path}")
    with open_store(url) as old:
        store.put_entries(("episodes", episode) for episode in old.episodes("neg"))
    return store


def in_waves(store: Store, sides: Sequence[LoggedSide], searches: Sequence[Search[Any]]) -> list[Any]:
    """The slow and obvious way: play what all searches want, then look what they want next."""
    work = continuations._quests(store, sides, PLAYERS)
    results, wanted = [None] * len(searches), {number: search.send(None) for number, search in enumerate(searches)}
    while wanted:
        asked = {
            number: {point: work.items(number, point)[:count] for point, count in points.items()}
            for number, points in wanted.items()
        }
        every = [item for points in asked.values() for items in points.values() for item in items]
        roll_out_all(store, plan(store, every).items, Game, PLAYERS.limits)
        wanted = {}
        for number, points in asked.items():
            episodes = {point: [store.get_episode(item.key.pk) for item in items] for point, items in points.items()}
            scores = {point: [one.outcome.value for one in found if one] for point, found in episodes.items()}
            try:
                wanted[number] = searches[number].send(scores)
            except StopIteration as done:
                results[number] = done.value
    return results


def searches_for(sides: Sequence[LoggedSide]) -> list[Search[Any]]:
    return [steepest(played_of(side), PLAYERS.rollouts) for side in sides]


def played_in(store: Store) -> list[tuple[Any, ...]]:
    """What continuations there are, with their draws and what came of them."""
    return sorted(
        (one.key, one.seed, one.messages, one.outcome.value)
        for tag in store.counts().episodes
        if tag != "neg"
        for one in store.episodes(tag)
    )


def test_the_pace_changes_nothing(
    negatives: tuple[str, list[LoggedSide]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same turns, values, continuations and seeds as in waves, whoever is slow; and none is played twice."""
    url, sides = negatives
    with copy_of(url, tmp_path / "waves.db") as store:
        expected, continued = in_waves(store, sides, searches_for(sides)), played_in(store)
    assert len({found.fall.start for found in expected}) > 1 and len(continued) > 6 * len(sides)
    monkeypatch.setattr(rollouts, "asking", Pace(1).asking)
    with copy_of(url, tmp_path / "own.db") as store:
        results, spent = search_all(store, sides, searches_for(sides), PLAYERS)
        assert results == expected and played_in(store) == continued and spent.rollouts == len(continued)
        monkeypatch.setattr(rollouts, "asking", None)
        assert search_all(store, sides, searches_for(sides), PLAYERS) == (results, spent), "all of it is stored"


def test_no_search_waits_for_another(
    negatives: tuple[str, list[LoggedSide]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One continuation that is not over holds up its own search alone; where it fails, that has no result."""
    url, sides = negatives
    others_over, over = asyncio.Event(), 0
    sample = rollouts.sample

    async def held_up(client: Any, item: Any, pool: Any) -> Any:
        nonlocal over
        if item.source_episode == sides[0].episode and item.key.trial == 0 and item.location == 1:
            await asyncio.wait_for(others_over.wait(), 60)
            ran = await sample(client, item, pool)
            fields = {"status": "failed", "failure": "late", "rewards": []}
            return ran._replace(episode=ran.episode.model_copy(update=fields))
        ran = await sample(client, item, pool)
        over += item.source_episode != sides[0].episode
        if over == expected:
            others_over.set()
        return ran

    with copy_of(url, tmp_path / "alone.db") as store:
        alone, spent = search_all(store, sides[1:], searches_for(sides[1:]), PLAYERS)
    expected = spent.rollouts
    monkeypatch.setattr(rollouts, "sample", held_up)
    with copy_of(url, tmp_path / "held.db") as store:
        results, _ = search_all(store, sides, searches_for(sides), PLAYERS)
    assert others_over.is_set() and results[0] is None and all(results[1:])
    assert [found.fall.start for found in results[1:]] == [found.fall.start for found in alone]
