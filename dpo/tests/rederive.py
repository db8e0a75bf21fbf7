"""Derive from a stored episode, as `sotopia db export` writes it, the dialogue of each of its two sides.

Comes in: an episode as JSON. Goes out: what the agent of a side was told, its dialogue, its scores, its task.
Invariant: nothing of sotopia_sdpo is imported, so a mistake of the code that is checked with this is not made here.
"""

import json
import re
from typing import Any


Record = dict[str, Any]
SideKey = tuple[str, int]
TRIAL = re.compile(r"_trial\d+$")
TASK_IN_TAG = re.compile(r"_([a-z]+)_trial\d+$")


def action_of(text: str) -> Record:
    """Turn what a stored message says back into the action."""
    if text == "did nothing":
        return {"action_type": "none", "argument": ""}
    if text == "left the conversation":
        return {"action_type": "leave", "argument": ""}
    if text.startswith('said: "') and text.endswith('"') and len(text) >= 8:
        return {"action_type": "speak", "argument": text[len('said: "') : -1]}
    kind, closed, argument = text.removeprefix("[").partition("] ")
    if text.startswith("[") and closed:
        return {"action_type": kind, "argument": argument}
    raise ValueError(f"no action: {text!r}")


class Side:
    """One side of an episode: what its agent was told, and the turns of its dialogue after the first human one."""

    def __init__(self, episode: Record, position: int) -> None:
        names = [receiver for sender, receiver, _ in episode["messages"][0] if sender == "Environment"]
        actions = []
        for turn, messages in enumerate(episode["messages"]):
            said, waited = (
                [m[2] for m in messages if m[:2] == [names[i % 2], "Environment"]] for i in (turn, turn + 1)
            )
            is_end = turn > 0 and turn == len(episode["messages"]) - 1 and not said
            if not is_end and (len(said) != 1 or waited not in ([], ["did nothing"])):
                raise ValueError(f"turn {turn} is not that of {names[turn % 2]} alone")
            actions += [action_of(text) for text in said]
        told = [text for sender, receiver, text in episode["messages"][0] if receiver == names[position]][0]
        self.background = told.strip().removesuffix("Conversation Starts:").strip()
        self.opening = actions[:position]
        self.turns = actions[position:]
        if len(self.turns) % 2 == 0:  # the agent's turns are 0, 2, 4, …: the partner's last word is not answered
            self.turns = self.turns[:-1]
        self.episode, self.position = episode, position

    @property
    def key(self) -> SideKey:
        """Name it."""
        return self.episode["pk"], self.position

    @property
    def scores(self) -> tuple[float, float]:
        """Return the stored goal and relationship."""
        dimensions = self.episode["rewards"][self.position][1]
        return dimensions["goal"], dimensions["relationship"]

    def faults(self, conversations: list[Record]) -> list[str]:
        """Compare a record's conversations with it, turn by turn."""
        found = []
        for index, turn in enumerate(conversations):
            if set(turn) != {"from", "value"} or turn["from"] != who(index):
                found.append(f"turn {index} has {sorted(turn)} and is from {turn['from']!r}, expected {who(index)!r}")
        if len(conversations) != 1 + len(self.turns):
            found.append(f"{len(conversations)} turns, the episode gives {1 + len(self.turns)}")
        first = conversations[0]["value"]
        if first.count(self.background) != 1:
            found.append("the first turn does not hold the stored background of its agent, once")
        last_line = parsed(first.rsplit("\n", 1)[-1])
        if [last_line] * (last_line is not None) != self.opening:
            found.append(f"the first turn ends on the action {last_line}, the partner's before it are {self.opening}")
        for index, (turn, action) in enumerate(zip(conversations[1:], self.turns, strict=False), start=1):
            if parsed(turn["value"]) != action:
                found.append(f"turn {index} is {turn['value']!r}, the episode says {action}")
        return found

    def difference(self, other: "Side") -> int | None:
        """Find the index of the first turn that differs and that both have."""
        mine, theirs = ([(side.background, side.opening), *side.turns] for side in (self, other))
        return next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)


def who(index: int) -> str:
    """Return whose turn an index is."""
    return "gpt" if index % 2 else "human"


def parsed(text: str) -> Record | None:
    """Read a turn, which is one JSON object of an action and nothing else."""
    try:
        action = json.loads(text)
    except ValueError:
        return None
    return action if isinstance(action, dict) and list(action) == ["action_type", "argument"] else None


def run_of(episode: Record) -> str:
    """Name the run: the tag without its trial."""
    return TRIAL.sub("", episode["tag"])


def task_of(episode: Record) -> str | None:
    """Return the task it was played for: as in its settings, else its tag."""
    in_tag = TASK_IN_TAG.search(episode["tag"])
    return (episode.get("settings") or {}).get("task") or (in_tag and in_tag[1])


def targets_of(episode: Record) -> list[int]:
    """List the roles that the model under test plays: both in self-chat."""
    models = episode.get("models") or []
    if len(models) != 3 or models[1] == models[2]:
        return [0, 1]
    if episode.get("agent_position") is not None:
        return [episode["agent_position"]]
    return [position for position in (0, 1) if episode["tag"].startswith(f"benchmark_{models[1 + position]}_")]
