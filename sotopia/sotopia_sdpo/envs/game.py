"""A tiny text game for tests: find a tool, use it on the right one of three things; a wrong one uses the tool up.

The house is a hall with a few rooms around it. Two kinds of quests are the same in other words, and a variation
decides where everything is. The score is 0, then 50 with the tool in hand, and 100 at the end; once the tool is used
on a wrong thing, 50 is the most that can be had.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from sotopia_sdpo.envs.protocol import Opening, Quest, Reply, Split
from sotopia_sdpo.outcomes import Outcome


HALL = "hall"
ROOMS = ("kitchen", "cellar", "attic")
COLOURS = ("red", "blue", "green")
VARIATIONS: dict[Split, range] = {"train": range(0, 30), "dev": range(30, 45), "test": range(45, 60)}


class Kind(NamedTuple):
    """The words of a kind of quest."""

    tool: str
    verb: str
    thing: str
    waste: str
    """What happens to the tool on a wrong thing."""


KINDS = {
    "chest": Kind("key", "unlock", "chest", "The key breaks in the lock."),
    "lamp": Kind("oil", "fill", "lamp", "The oil runs out through a crack."),
}


class Game:
    """One instance."""

    settings: dict[str, object] = {}
    commands = "`go ROOM`, `take THING`, `unlock THING`, `fill THING`, `look`"
    max_actions = 20
    kinds = tuple(KINDS)

    def variations(self, kind: str, split: Split) -> Sequence[int]:
        """Return the variations of a kind in a split."""
        return VARIATIONS[split]

    def reset(self, quest: Quest) -> Opening:
        """Begin a quest."""
        draw = random.Random(str(quest))
        self.words = KINDS[quest.kind]
        self.wanted = draw.choice(COLOURS)
        self.tool_at = draw.choice(ROOMS)
        self.things_at = draw.choice(ROOMS)
        self.at, self.has_tool, self.points = HALL, False, 0
        told = f"The {self.words.tool} is in the {self.tool_at}, the {self.words.thing}s are in the {self.things_at}."
        return Opening(f"{self.words.verb.title()} the {self.wanted} {self.words.thing}. {told}", self._look())

    def act(self, action: str) -> Reply:
        """Do one action."""
        before = self.points
        verb, _, rest = action.lower().partition(" ")
        observation = self._done(verb, rest.removeprefix("the "))
        return Reply(observation, self.points - before, self.points == 100)

    def score(self) -> Outcome:
        """Return the points so far."""
        return Outcome("score", self.points, 0, 100)

    def gold(self, quest: Quest) -> Sequence[str]:
        """Return the shortest way."""
        self.reset(quest)
        actions = []
        while self.points < 100:
            actions.append(self.right())
            self.act(actions[-1])
        return actions

    def right(self) -> str:
        """Return the next action of the shortest way from here; `look` where none leads to the end any more."""
        if self.is_wasted:
            return "look"
        target = self.things_at if self.has_tool else self.tool_at
        if self.at != target:
            return f"go {target if self.at == HALL else HALL}"
        return f"{self.words.verb} {self.wanted} {self.words.thing}" if self.has_tool else f"take {self.words.tool}"

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def is_wasted(self) -> bool:
        """Whether the tool is used up on a wrong thing."""
        return not self.has_tool and not self.tool_at and self.points < 100

    def _done(self, verb: str, rest: str) -> str:
        """Change what the action changes, and say what happens."""
        if verb == "look":
            return self._look()
        if verb == "go" and rest in self._exits():
            self.at = rest
            return self._look()
        if verb == "take" and rest == self.words.tool and self._sees_tool():
            self.has_tool, self.tool_at, self.points = True, "", 50
            return f"You have the {rest}."
        colour, _, thing = rest.partition(" ")
        is_here = self.things_at == self.at and colour in COLOURS and thing == self.words.thing
        if verb == self.words.verb and is_here and self.has_tool:
            self.has_tool = False
            if colour != self.wanted:
                return self.words.waste
            self.points = 100
            return f"The {rest} is done."
        return "Nothing happens."

    def _exits(self) -> Sequence[str]:
        return ROOMS if self.at == HALL else (HALL,)

    def _sees_tool(self) -> bool:
        return self.tool_at == self.at

    def _look(self) -> str:
        """Say what is here."""
        things = [f"a {colour} {self.words.thing}" for colour in COLOURS if self.things_at == self.at]
        seen = [f"the {self.words.tool}"] * self._sees_tool() + things
        return f"You are in the {self.at}. You see {', '.join(seen) or 'nothing'}. Exits: {', '.join(self._exits())}."
