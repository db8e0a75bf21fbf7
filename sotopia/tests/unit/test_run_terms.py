"""One tag, one set of settings: whoever begins first, stands still or has ended."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_world import finished, make_run, small_store

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.run import terms as module
from sotopia_sdpo.run.plan import Run, WorkItem, items_of_combos, plan
from sotopia_sdpo.run.runner import Ran, Runner
from sotopia_sdpo.run.terms import Terms
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.world.combos import Combo


COMBOS = [Combo(f"e{number}", ("p0", "p1")) for number in range(2)]
OURS, OTHERS = make_run(tag="t"), make_run(tag="t", temperature=0.9)
SHORT_S = 0.2


def items(run: Run) -> list[WorkItem]:
    """Make work."""
    return items_of_combos(run, COMBOS)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, in which claims run out soon."""
    for name, value in (("CLAIM_TTL_S", SHORT_S), ("LONGEST_WAIT_S", 4 * SHORT_S), ("LOOK_AGAIN_S", SHORT_S / 8)):
        monkeypatch.setattr(module, name, value)
    return small_store(tmp_path)


async def hold(store: Store, *runs: Run) -> None:
    """Hold the tags of some runs, each beside a renewal of those before."""
    held: list[Terms] = []
    for run in runs:
        terms = Terms(store, items(run))
        holding = asyncio.create_task(terms.hold())
        while not holding.done():
            for earlier in held:
                earlier.renew()
            await asyncio.sleep(SHORT_S / 8)
        await holding
        held.append(terms)


def test_those_who_agree_share_a_tag(store: Store) -> None:
    """Also where the models are at other addresses."""
    models = [parse_model(f"custom/{name}@http://elsewhere/v1") for name in ("m", "m", "judge")]
    moved = replace(OURS, model=models[0], partner=models[1], evaluator=models[2])
    asyncio.run(hold(store, OURS, moved))


def test_who_begins_at_the_same_time_with_other_settings_is_refused(store: Store) -> None:
    """Nothing is stored yet, so both plans are good."""
    assert len(plan(store, items(OURS)).items) == len(plan(store, items(OTHERS)).items) == len(COMBOS)
    with pytest.raises(UserError, match="tag t: another process samples it with other settings or models; give"):
        asyncio.run(hold(store, OURS, OTHERS))


def test_a_tag_may_be_had_from_one_that_has_ended(store: Store) -> None:
    asyncio.run(Terms(store, items(OURS)).hold())
    asyncio.run(Terms(store, items(OTHERS)).hold())


def test_what_was_stored_while_a_tag_was_waited_for_is_seen(store: Store) -> None:
    asyncio.run(Terms(store, items(OURS)).hold())
    store.put_episode(finished(items(OURS)[0]))
    with pytest.raises(UserError, match=r"tag t: its episodes have temperature 0.7, this command 0.9; give"):
        asyncio.run(Terms(store, items(OTHERS)).hold())


def test_who_stood_still_while_others_began_stops(store: Store) -> None:
    """Its process was stopped, or its machine asleep; it stores nothing more once it has noticed."""
    ours, others = Terms(store, items(OURS)), Terms(store, items(OTHERS))
    asyncio.run(ours.hold())
    asyncio.run(others.hold())

    async def never(_: WorkItem) -> Ran:
        await asyncio.sleep(60)
        raise AssertionError

    runner = Runner(store, never, renew=ours.renew)
    started = time.monotonic()
    counts = asyncio.run(runner.run(items(OURS), 2))
    assert "while this process stood still, another one has begun to sample it" in counts.stopped_because
    assert time.monotonic() - started < 30 and store.heads() == []


def test_all_tags_of_a_run_are_held(store: Store) -> None:
    """Continuations of a later trial have a tag of their own, and follow those of the first."""
    several, other = make_run(trials=3), make_run(trials=3, temperature=0.9)
    with pytest.raises(UserError, match=f"tag {several.tags[2]}: another process samples it"):
        asyncio.run(hold(store, several, replace(other, trials=1, tag=several.tags[2])))


def test_what_is_held_does_not_run_out_while_another_tag_is_waited_for(store: Store) -> None:
    """Of two tags the second is others' for longer than a claim lives; meanwhile nobody gets the first."""
    run = make_run(trials=2)
    first, second = (EpisodeKey(f"{module.NAME}{tag}", "", 0, 0) for tag in run.tags)

    async def use() -> list[bool]:
        store.claim(second, "others", 3 * SHORT_S)
        holding = asyncio.create_task(Terms(store, items(run)).hold())
        await asyncio.sleep(SHORT_S / 4)
        got = []
        while not holding.done():
            got.append(store.claim(first, "a thief", SHORT_S))
            await asyncio.sleep(SHORT_S / 8)
        await holding
        return got

    assert (got := asyncio.run(use())) and not any(got)


def test_a_tag_that_is_held_may_be_deleted(store: Store) -> None:
    """Only claims on its episodes say that somebody is at work."""
    asyncio.run(Terms(store, items(OURS)).hold())
    assert store.claimers("t") == set()
