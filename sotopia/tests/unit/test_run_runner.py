"""The pool: always full, nothing twice, nothing lost, whoever else works on the same store."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from small_world import finished, make_run, small_store

from sotopia_sdpo.account import Missed
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.run import runner as pool
from sotopia_sdpo.run.plan import WorkItem, items_of_combos, plan
from sotopia_sdpo.run.runner import Counts, Ran, Runner
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.world.combos import Combo


def items(count: int) -> list[WorkItem]:
    """Make work."""
    return items_of_combos(make_run(), [Combo(f"e{i}", ("p0", "p1")) for i in range(count)])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return small_store(tmp_path)


def test_no_episode_waits_for_the_slowest(store: Store) -> None:
    """20 episodes, 4 at a time; the first one lasts until all others are over, so a batch would never end."""
    in_flight, most, over = 0, 0, 0

    async def run_one(item: WorkItem) -> Ran:
        nonlocal in_flight, most, over
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.01)
        while item.combo.environment == "e0" and over < 19:
            await asyncio.sleep(0.01)
        in_flight -= 1
        over += 1
        return Ran(finished(item))

    counts = asyncio.run(asyncio.wait_for(Runner(store, run_one).run(items(20), 4), 60))
    assert counts.is_complete and counts.scored == 20 and most == 4
    assert store.counts().episodes[items(1)[0].key.tag] == {"scored": 20}


def test_what_fails_is_stored_counted_and_does_not_stop_the_others(store: Store) -> None:
    async def run_one(item: WorkItem) -> Ran:
        number = int(item.combo.environment[1:])
        return Ran(finished(item, ("scored", "failed", "unscored")[number % 3]))

    counts = asyncio.run(Runner(store, run_one).run(items(9), 2))
    assert (counts.scored, counts.failed, counts.unscored) == (3, 3, 3) and not counts.is_complete
    assert counts.reasons == {"because": 6}
    # Of the 9, and of 11 that were scored before.
    assert counts.missed(11) == Missed(6, 20, "episodes", "because", unscored=3)


def test_two_processes_share_the_work(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LOOK_AGAIN_S", 0.05)
    runs: Counter[str] = Counter()

    async def run_one(item: WorkItem) -> Ran:
        runs[item.combo.environment] += 1
        await asyncio.sleep(0.02)
        return Ran(finished(item))

    async def both() -> list[Counts]:
        with small_store(tmp_path) as other:
            runners = [Runner(store, run_one), Runner(other, run_one)]
            return await asyncio.gather(*(runner.run(items(30), 3) for runner in runners))

    counts = asyncio.run(both())
    assert set(runs.values()) == {1} and len(runs) == 30
    assert all(o.is_complete for o in counts) and sum(o.scored for o in counts) == 30
    assert sum(o.elsewhere for o in counts) == 30


def test_the_claim_of_a_dead_process_runs_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LOOK_AGAIN_S", 0.05)
    work = items(3)
    assert store.claim(work[1].key, "somebody who was killed", 0.3)

    async def run_one(item: WorkItem) -> Ran:
        return Ran(finished(item))

    counts = asyncio.run(Runner(store, run_one).run(work, 2))
    assert counts.scored == 3 and counts.elsewhere == 0


def test_a_claim_is_kept_while_its_episode_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOK_AGAIN_S", 0.05), ("RENEW_S", 0.1), ("CLAIM_TTL_S", 0.4)):
        monkeypatch.setattr(pool, name, value)
    (item,) = items(1)

    async def run_one(_: WorkItem) -> Ran:
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert not store.claim(item.key, "a rival", 1)
        return Ran(finished(item))

    assert asyncio.run(Runner(store, run_one).run([item], 1)).scored == 1


def test_a_claim_is_kept_while_looking_again_is_slow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at what a rival does takes longer than a claim should wait for its renewal."""
    for name, value in (("LOOK_AGAIN_S", 0.05), ("RENEW_S", 0.5), ("CLAIM_TTL_S", 2.0)):
        monkeypatch.setattr(pool, name, value)
    ours, other = items(2)
    assert store.claim(other.key, "a rival", 60)
    find_keys = store.find_keys

    def slow(keys: set[EpisodeKey]) -> dict[EpisodeKey, EpisodeHead]:
        time.sleep(0.6)
        return find_keys(keys)

    monkeypatch.setattr(store, "find_keys", slow)

    async def run_one(item: WorkItem) -> Ran:
        for _ in range(35 if item is ours else 0):
            await asyncio.sleep(0.1)
            assert not store.claim(ours.key, "a thief", 1)
        store.release([other.key], "a rival")
        return Ran(finished(item))

    assert asyncio.run(Runner(store, run_one).run([ours, other], 2)).scored == 2


def test_a_lost_claim_is_not_stored_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that slept too long finds its episode done by another one, and leaves it alone."""
    monkeypatch.setattr(pool, "LOOK_AGAIN_S", 0.05)
    (item,) = items(1)

    async def run_one(_: WorkItem) -> Ran:
        store.release([item.key], runner.owner)
        assert store.claim(item.key, "a rival", 5) and store.put_episode(finished(item, goal=9.0), "a rival")
        return Ran(finished(item, goal=1.0))

    runner = Runner(store, run_one)
    counts = asyncio.run(runner.run([item], 1))
    assert (counts.scored, counts.elsewhere) == (0, 1)
    assert store.get_episode(item.key.pk).rewards[0][1]["goal"] == 9.0


def test_a_job_whose_claim_is_always_lost_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that sleeps in every episode would pay for it for ever; a later run may have it."""
    monkeypatch.setattr(pool, "LOOK_AGAIN_S", 0.05)
    first, second = items(2)
    paid: Counter[str] = Counter()

    async def run_one(item: WorkItem) -> Ran:
        paid[item.combo.environment] += 1
        if item.key == first.key:
            store.release([item.key], runner.owner)
        return Ran(finished(item))

    runner = Runner(store, run_one)
    counts = asyncio.run(asyncio.wait_for(runner.run([first, second], 2), 60))
    assert paid == {"e0": pool.MAY_LOSE, "e1": 1} and (counts.scored, counts.failed, counts.done) == (1, 1, 2)
    assert counts.reasons == {pool.CLAIM_LOST: 1} and store.claim(first.key, "a later run", 1)


def test_a_cancellation_gives_the_claims_back(store: Store) -> None:
    work = items(4)

    async def run_one(_: WorkItem) -> Ran:
        await asyncio.sleep(60)
        raise AssertionError

    async def cancelled() -> None:
        task = asyncio.create_task(Runner(store, run_one).run(work, 4))
        await asyncio.sleep(0.2)
        assert not store.claim(work[0].key, "a rival", 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert all(store.claim(item.key, "a rival", 1) for item in work)


def test_a_database_that_goes_away_stops_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_one(item: WorkItem) -> Ran:
        if item.combo.environment == "e5":
            monkeypatch.setattr(store, "put_episode", gone)
        return Ran(finished(item))

    def gone(*_: object) -> bool:
        raise UserError("redis://h:1/0: connection lost")

    counts = asyncio.run(Runner(store, run_one).run(items(20), 2))
    assert counts.stopped_because == "redis://h:1/0: connection lost" and 0 < counts.scored < 20


def test_what_is_gone_at_the_end_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lacks what was stored has taken over, or somebody has deleted: theirs and ours are looked for."""
    monkeypatch.setattr(pool, "LOOK_AGAIN_S", 0.05)
    work = items(6)
    store.put_episode(finished(work[0]))

    async def run_one(item: WorkItem) -> Ran:
        if item.combo.environment == "e4":
            while len(store.heads()) < 5 or runner.counts.elsewhere < 1:
                await asyncio.sleep(0.01)
            store.delete_episodes([work[0].key.pk, work[1].key.pk])
        return Ran(finished(item))

    runner = Runner(store, run_one)
    counts = asyncio.run(runner.run(work, 2))
    assert (counts.scored, counts.elsewhere, counts.is_complete) == (5, 1, False)
    assert counts.missed(0)[:2] == (2, 6)
    assert "2 of the episodes that count as done are not there any more, such as e0/p0/p1" in (counts.stopped_because)
    runner = Runner(store, run_one)
    again = asyncio.run(runner.run(work, 2))
    assert again.is_complete and (again.scored, again.elsewhere) == (2, 4) and len(store.heads()) == 6


def test_what_was_done_before_and_is_gone_is_told(store: Store) -> None:
    """It is no work of this run, which says "all is done" of it all the same."""
    work = items(4)
    store.put_episode(finished(work[0]))
    found = plan(store, work)

    async def run_one(item: WorkItem) -> Ran:
        store.delete_episodes([work[0].key.pk])
        return Ran(finished(item))

    counts = asyncio.run(Runner(store, run_one, done=found.done).run(found.items, 2))
    assert counts.scored == 3 and not counts.is_complete
    assert counts.stopped_because.startswith(f"{store.url}: 1 of the episodes that count as done are not there")
    assert counts.missed(len(found.done))[:2] == (1, 4)


@pytest.mark.parametrize("last", [2, 3], ids=["while it runs", "before it looks"])
def test_a_file_that_is_deleted_meanwhile_stops_the_run(store: Store, tmp_path: Path, last: int) -> None:
    """Its episodes would go on into a file that has no name any more."""
    work = items(4)

    def tell(counts: Counts) -> None:
        if counts.done == last + 1:
            (tmp_path / "small.db").unlink()

    async def run_one(item: WorkItem) -> Ran:
        return Ran(finished(item))

    counts = asyncio.run(Runner(store, run_one, tell).run(work, 1))
    assert "small.db: deleted, moved or replaced while it was in use" in counts.stopped_because
    assert counts.scored == last + 1 and counts.missed(0).number == max(3 - last, 1)


def test_a_server_that_is_gone_stops_the_run(store: Store) -> None:
    async def run_one(item: WorkItem) -> Ran:
        return Ran(finished(item, "failed"), is_unreachable=True)

    counts = asyncio.run(Runner(store, run_one).run(items(40), 2))
    assert counts.stopped_because == "a server stopped answering" and counts.failed < 10
    missed = Missed(40, 40, "episodes", "a server stopped answering", is_stopped=True)
    assert counts.missed(0) == missed, "what was not started, too"


def test_where_the_look_at_the_end_fails_the_run_does_not_end_well(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_one(item: WorkItem) -> Ran:
        return Ran(finished(item))

    def gone(*_: object) -> dict[EpisodeKey, EpisodeHead]:
        raise UserError("redis://h:1/0: connection lost")

    monkeypatch.setattr(store, "find_keys", gone)
    counts = asyncio.run(Runner(store, run_one).run(items(3), 2))
    missed = Missed(1, 3, "episodes", "redis://h:1/0: connection lost", is_stopped=True)
    assert counts.scored == 3 and counts.missed(0) == missed
