"""Searches go on at their own pace, and find what they would find if each waited for the slowest of all."""

import asyncio
import json
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sotopia_sdpo.account import ACCOUNT, Missed, read_account
from sotopia_sdpo.envs.game import Game
from sotopia_sdpo.envs.protocol import Quest
from sotopia_sdpo.errors import EXIT_INCOMPLETE, UserError
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.pairs import continuations
from sotopia_sdpo.pairs.annotate import Annotation
from sotopia_sdpo.pairs.continuations import Players, Spent, played_of, search_all
from sotopia_sdpo.pairs.indexed_answer import IndexedAnswer
from sotopia_sdpo.pairs.proof import CONFIRMED, NOT_PLAYED, Proof
from sotopia_sdpo.pairs.quests import record_of
from sotopia_sdpo.pairs.records import LoggedSide
from sotopia_sdpo.pairs.steps import locate
from sotopia_sdpo.pairs.values import Fall, Found, Search, Value, steepest
from sotopia_sdpo.play.rollout import Choose
from sotopia_sdpo.play.walk import Walk, chat_of
from sotopia_sdpo.run import rollouts
from sotopia_sdpo.run import runner as pool
from sotopia_sdpo.run.plan import plan
from sotopia_sdpo.run.quests import QuestRun, items_of_quests
from sotopia_sdpo.run.rollouts import roll_out_all
from sotopia_sdpo.simulated.player import game_of
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey
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


def test_what_another_process_has_played_meanwhile_is_gone_on_with(
    negatives: tuple[str, list[LoggedSide]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look whether a continuation is stored and its claim, another search for the same stores it."""
    url, sides = negatives
    monkeypatch.setattr(pool, "LOOK_AGAIN_S", 0.05)
    with copy_of(url, tmp_path / "both.db") as store:
        expected = search_all(store, sides, searches_for(sides), PLAYERS)
        find_keys, seen = store.find_keys, set[EpisodeKey]()

        def late(keys: Collection[EpisodeKey]) -> dict[EpisodeKey, EpisodeHead]:
            found = {key: head for key, head in find_keys(keys).items() if key in seen}
            seen.update(keys)
            return found

        monkeypatch.setattr(store, "find_keys", late)
        monkeypatch.setattr(rollouts, "asking", None)
        assert search_all(store, sides, searches_for(sides), PLAYERS) == expected


def test_continuations_with_other_settings_are_refused(
    negatives: tuple[str, list[LoggedSide]], tmp_path: Path
) -> None:
    """Also where all that is wanted is stored, so that nothing has to be played."""
    url, sides = negatives
    players = replace(PLAYERS, tag="mine")
    with copy_of(url, tmp_path / "other.db") as store:
        search_all(store, sides, searches_for(sides), players)
        for other in (replace(players, model=MODEL.replace("/m", "/n")), replace(players, max_actions=19)):
            with pytest.raises(UserError, match="tag mine: its episodes "):
                search_all(store, sides, searches_for(sides), other)


def test_a_continuation_that_is_gone_in_the_end_is_told(
    negatives: tuple[str, list[LoggedSide]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played by an earlier run, used by this one, and deleted meanwhile: task `hpos` would not find it."""
    url, sides = negatives
    monkeypatch.setenv(ACCOUNT, str(tmp_path / "account"))
    source, target, at = tmp_path / "negatives.json", tmp_path / "located.json", f"sqlite:///{tmp_path}/gone.db"
    source.write_text(json.dumps([side.dump() for side in sides]))
    with copy_of(url, tmp_path / "gone.db") as store:
        search_all(store, sides[:1], searches_for(sides[:1]), PLAYERS)
        gone = played_in(store)[0][0]
        sample = rollouts.sample

        async def deleting(client: Any, item: Any, pool: Any) -> Any:
            store.delete_episodes([gone.pk])
            return await sample(client, item, pool)

        monkeypatch.setattr(rollouts, "sample", deleting)
        assert locate.by_replay(source, target, at, PLAYERS, None) == EXIT_INCOMPLETE
    missed, found = read_account(tmp_path / "account"), json.loads(target.read_text())
    assert missed and missed[:3] == (1, len(sides), "negatives") and missed.is_stopped and found
    assert "1 of the episodes that count as done are not there any more" in missed.reason


def test_named_turns_that_could_not_be_proven_are_in_the_account(
    negatives: tuple[str, list[LoggedSide]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model has named all turns; the continuations of three of four fail, which the loop must not take for well."""
    url, sides = negatives
    monkeypatch.setenv(ACCOUNT, str(tmp_path / "account"))
    source, target = tmp_path / "negatives.json", tmp_path / "located.json"
    source.write_text(json.dumps([side.dump() for side in sides]))
    answers = [IndexedAnswer((1,), "said so")] * len(sides)
    monkeypatch.setattr(locate, "annotate", lambda *_: Annotation(answers))
    values = {0: Value(100.0, 1.0, 3), 1: Value(50.0, 1.0, 3)}
    proofs = [Proof(CONFIRMED, Found(Fall(0, 1, *values.values()), values)), None, None, None]
    monkeypatch.setattr(locate, "search_all", lambda *_: (proofs, Spent(6, 30, 30, 99)))

    def verify() -> tuple[int | None, Missed | None]:
        code = locate.main(model=MODEL, verify=3, agent=MODEL, input=source, output=target, db=url, data_dir=tmp_path)
        return code, read_account(tmp_path / "account")

    assert verify() == (EXIT_INCOMPLETE, Missed(3, 4, "negatives", NOT_PLAYED))
    assert len(json.loads(target.read_text())) == 1
    proofs[0] = None
    with pytest.raises(UserError, match="none is left: kept 0 of 4 negatives"):
        verify()
