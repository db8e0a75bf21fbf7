"""The small game: solved by its gold actions, the same every time, and with a mistake that cannot be mended."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.envs.game import COLOURS, KINDS, VARIATIONS, Game
from sotopia_sdpo.envs.protocol import SPLITS, Quest, Reply


QUESTS = [Quest(kind, variation) for kind in KINDS for split in SPLITS for variation in VARIATIONS[split]]
WORDS = ("go hall", "go kitchen", "go cellar", "go attic", "take key", "unlock red chest", "unlock the blue chest")


def played(quest: Quest, actions: list[str], game: Game | None = None) -> list[object]:
    """Play a quest, and list all that is told."""
    game = game or Game()
    return [game.reset(quest), *map(game.act, actions), game.score()]


def test_the_splits_share_no_variation() -> None:
    sets = [set(Game().variations("chest", split)) for split in SPLITS]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 60


@pytest.mark.parametrize("quest", QUESTS[::7], ids=str)
def test_gold_solves_it_and_rewards_add_up(quest: Quest) -> None:
    game = Game()
    replies = [one for one in played(quest, list(game.gold(quest)), game) if isinstance(one, Reply)]
    assert [reply.is_over for reply in replies] == [False] * (len(replies) - 1) + [True]
    assert sum(reply.reward for reply in replies) == game.score().value == game.score().high == 100


def test_a_wrong_thing_uses_the_tool_up() -> None:
    quest = QUESTS[0]
    game = Game()
    *way, use = game.gold(quest)
    wrong = next(colour for colour in COLOURS if colour not in use)
    found = played(quest, [*way, f"unlock {wrong} chest", use, "take key", use], game)
    assert found[len(way) + 1] == Reply("The key breaks in the lock.", 0, False)
    assert game.score().value == 50 and game.is_wasted and game.right() == "look"


def test_nonsense_changes_nothing() -> None:
    game = Game()
    before = game.reset(QUESTS[0])
    for action in (
        "",
        "go",
        "go moon",
        "take",
        "take key",
        "unlock",
        "unlock red chest",
        "dance\n",
        "unlock pink chest",
    ):
        assert game.act(action) == Reply("Nothing happens.", 0, False)
    assert game.act("look").observation == before.observation


@given(st.sampled_from(QUESTS), st.lists(st.sampled_from(WORDS), max_size=12), st.sampled_from(QUESTS))
def test_the_same_actions_lead_to_the_same(quest: Quest, actions: list[str], before: Quest) -> None:
    """In a new instance, and in one that has played something else."""
    used = Game()
    played(before, actions[::-1], used)
    first, second = played(quest, actions), played(quest, actions, used)
    assert first == second
    scores = [game.points for game in _states(quest, actions)]
    assert all(one <= two for one, two in pairwise(scores))


def _states(quest: Quest, actions: list[str]) -> list[Game]:
    """The game after each number of actions."""
    found = []
    for length in range(len(actions) + 1):
        game = Game()
        played(quest, actions[:length], game)
        found.append(game)
    return found
