"""One episode in the small game: by gold, by a scripted model, replayed; and whatever can break it off."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from test_run_execute import Client

from sotopia_sdpo.envs.game import Game
from sotopia_sdpo.envs.pool import Pool
from sotopia_sdpo.envs.protocol import Quest, Reply
from sotopia_sdpo.llm.backends import Transient, Unreachable
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.llm.usage import Meter
from sotopia_sdpo.play.episode import SEED_STEP
from sotopia_sdpo.play.rollout import ACTION_MAX_TOKENS, RolledOut, asking, roll_out
from sotopia_sdpo.play.script import Player
from sotopia_sdpo.play.walk import NO_ACTION, NO_ACTION_TOLD, Walk


QUEST = Quest("chest", 3)
GOLD = list(Game().gold(QUEST))


class Watched(Game):
    """A game that counts what is done with it."""

    made = 0
    closed = 0

    def __init__(self) -> None:
        type(self).made += 1

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture(autouse=True)
def fresh() -> None:
    Watched.made = Watched.closed = 0


def rolled(
    *answers: str | Exception, limit: int = 20, history: Walk | None = None, gold: bool = False, game: Any = Watched
) -> tuple[RolledOut, Client]:
    """Play one episode; without answers it must not ask."""
    client = Client(answers)
    player = Player(parse_model("custom/m@http://h/v1"), 0.7, 0.9, 5)

    async def work() -> RolledOut:
        with Pool(game, 2) as pool:
            choose = None if gold else asking(client, player, 11, "here", Meter())  # type: ignore[arg-type]
            return await roll_out(pool, QUEST, choose, limit, history)

    return asyncio.run(work()), client


def walk(actions: Sequence[str]) -> Walk:
    """The walk of some actions."""
    found, _ = rolled(*actions, limit=len(actions))
    return found.walk


def test_gold_is_played_whole_without_a_model() -> None:
    found, client = rolled(gold=True, limit=1)
    assert found.outcome and found.outcome.value == 100 and list(found.walk.actions) == GOLD and not client.asked


def test_a_model_is_asked_for_every_action() -> None:
    found, client = rolled(*GOLD, "never asked for")
    assert found.outcome and found.outcome.value == 100 and len(client.asked) == len(GOLD)
    for turn, (_, chat, sampling, affinity) in enumerate(client.asked):
        assert len(chat) == 2 * turn + 1 and chat[-1]["content"] == found.walk.told[turn] and affinity == "here"
        assert sampling.seed == 11 + SEED_STEP * turn and sampling.max_tokens == ACTION_MAX_TOKENS
        assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.schema) == (0.7, 0.9, 5, None)


def test_the_limit_ends_an_episode_with_the_score_so_far() -> None:
    found, _ = rolled(*GOLD, limit=2)
    assert found.outcome and found.outcome.value == 50 and len(found.walk.actions) == 2


def test_an_empty_answer_is_no_action() -> None:
    found, _ = rolled("  \n", "dance", limit=2)
    assert found.walk.actions == (NO_ACTION, "dance")
    assert found.walk.told[1:] == (NO_ACTION_TOLD, "Nothing happens.")


def test_a_history_is_replayed_and_played_on() -> None:
    history = walk([GOLD[0], "", GOLD[1]])
    found, client = rolled(*GOLD[2:], history=history)
    assert found.outcome and found.outcome.value == 100
    assert found.walk.before(3) == history and len(client.asked) == len(GOLD) - 2
    assert client.asked[0][1][-1]["content"] == history.told[-1]


@pytest.mark.parametrize("step", range(3))
def test_a_replay_that_goes_another_way_is_a_failure_with_its_step(step: int) -> None:
    history = walk(GOLD[:2])
    told = [text + " A cat comes in." * (number == step) for number, text in enumerate(history.told)]
    found, client = rolled(history=history._replace(told=tuple(told)))
    assert found.outcome is None and not client.asked and len(found.walk.actions) == step
    assert f"the replay differs from the first play at step {step}: 'A cat comes in.' then, '' now" in found.failure


def test_a_replay_that_is_over_too_early_is_a_failure() -> None:
    history = walk(GOLD).then("look", "?")
    found, _ = rolled(history=history)
    assert found.failure == f"the replay is over after step {len(GOLD)} of {len(GOLD) + 1}"


@pytest.mark.parametrize(("fault", "is_gone"), [(Transient("busy"), False), (Unreachable("nobody"), True)])
def test_a_model_that_fails_is_a_failure_that_keeps_what_was_played(fault: Exception, is_gone: bool) -> None:
    found, _ = rolled(GOLD[0], fault)
    assert found.outcome is None and str(fault) in found.failure and found.is_unreachable == is_gone
    assert found.walk.actions == (GOLD[0],) and Watched.made == Watched.closed == 1


class Breaks(Watched):
    """A game that breaks at `dance`."""

    def act(self, action: str) -> Reply:
        if action == "dance":
            raise KeyError("the floor")
        return super().act(action)


def test_an_environment_that_breaks_is_a_failure() -> None:
    found, _ = rolled("look", "dance", game=Breaks)
    assert found.outcome is None and found.failure == "the environment failed: KeyError: 'the floor'"
    assert found.walk.actions == ("look",)


class NoGold(Game):
    def gold(self, quest: Quest) -> None:  # type: ignore[override]
        return None


def test_gold_that_is_not_known_is_a_failure() -> None:
    found, _ = rolled(gold=True, game=NoGold)
    assert found.outcome is None and found.failure == "no gold actions of chest/3 are known"


def test_instances_are_used_again_unless_they_broke() -> None:
    """Three episodes one after the other: the second breaks its instance, so the third has a new one."""

    async def work() -> list[RolledOut]:
        found = []
        with Pool(Breaks, 2) as pool:
            for answers in (["look"], ["dance"], ["look"], ["look"]):
                client = Client(answers)
                choose = asking(client, Player(parse_model("m"), 0.0), 0, "", Meter())  # type: ignore[arg-type]
                found.append(await roll_out(pool, QUEST, choose, 1))
                assert Breaks.closed == (len(found) > 1)
        return found

    Breaks.made = Breaks.closed = 0
    assert [one.outcome is not None for one in asyncio.run(work())] == [True, False, True, True]
    assert Breaks.made == Breaks.closed == 2
