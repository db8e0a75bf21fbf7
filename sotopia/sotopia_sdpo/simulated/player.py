"""What a scripted agent does next in the package's small game.

Comes in: a chat, and sources of draws. Goes out: an action. As in `policy.py`, a model's name decides how careful it
is: a careful move is the next one of the shortest way, a careless one may waste what is needed.
"""

from collections.abc import Sequence
from functools import cache

from sotopia_sdpo.envs.game import COLOURS, HALL, KINDS, VARIATIONS, Game
from sotopia_sdpo.envs.protocol import Quest
from sotopia_sdpo.play.walk import first_turn
from sotopia_sdpo.simulated.draws import Draw
from sotopia_sdpo.simulated.policy import BEST_CARE, WORST_CARE


def game_of(messages: Sequence[dict[str, str]]) -> Game | None:
    """Return the game as it stands after a chat; None where the chat is about something else."""
    turns = [message for message in messages if message["role"] in ("user", "assistant")]
    quest = quests().get(turns[0]["content"]) if turns else None
    if quest is None:
        return None
    game = Game()
    game.reset(quest)
    for message in turns:
        if message["role"] == "assistant":
            game.act(message["content"])
    return game


@cache
def quests() -> dict[str, Quest]:
    """Return the quests by the first turn of their chats; where two have the same, all goes the same way in them."""
    game = Game()
    found = (Quest(kind, variation) for kind in KINDS for split in VARIATIONS.values() for variation in split)
    return {first_turn(game.reset(quest), game.commands): quest for quest in found}


def move(game: Game, nature: Draw, draw: Draw) -> str:
    """Choose the next action."""
    if draw("care now") < WORST_CARE + (BEST_CARE - WORST_CARE) * nature("care"):
        return game.right()
    words = game.words
    careless = [f"{words.verb} {colour} {words.thing}" for colour in COLOURS]
    return [*careless, f"go {HALL}", "dance"][int((len(careless) + 2) * draw("careless"))]
