"""Dialogues, records and episodes, for tests of what the scripts of dpo/ share."""

from collections.abc import Sequence
from typing import Any

from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Message, Template
from sotopia_sdpo.store.episode import Episode


TEMPLATE = Template("{{background}}", "t.txt")
MODELS = ["judge", "agent", "partner"]


def turns(*said: str, system: bool = False) -> list[Message]:
    """Make a dialogue: what the agent was told, then agent and partner by turns."""
    values = ["told", *(Action("speak", word).to_json() for word in said)]
    found = [{"from": ("human", "gpt")[index % 2], "value": value} for index, value in enumerate(values)]
    return [{"from": "system", "value": "Play."}, *found] if system else found


def row(*said: str, **changes: Any) -> dict[str, Any]:
    """Make a record of negative_data.json."""
    place = {"episode": "E", "env": "e0", "agents": ["p0", "p1"], "agent_position": 0}
    scores = {"goal": 5, "relationship": 1}
    return {"conversations": turns(*(said or ("a", "b", "c"))), **place, **scores, **changes}


def messages_of(said: Sequence[str], told: str = "told") -> list[list[tuple[str, str, str]]]:
    """Write a session as the messages of a stored episode."""
    names = ("Ann", "Bo")
    found: list[list[tuple[str, str, str]]] = [
        [("Environment", name, f"{told}\nConversation Starts:") for name in names]
    ]
    for turn, word in enumerate(said):
        done = [(name, "Environment", "did nothing") for name in names]
        done[turn % 2] = (names[turn % 2], "Environment", Action("speak", word).to_text())
        found[-1] = found[-1] + done
        found.append([("Environment", name, "seen") for name in names])
    return found


def episode(
    pk: str = "E", said: Sequence[str] = ("a", "b", "c"), scores: Any = ((5, 1), (5, 1)), **changes: Any
) -> Episode:
    """Make an episode; scores are goal and relationship by agent."""
    rewards = [(0.0, {"goal": goal, "relationship": relationship}) for goal, relationship in scores or ()]
    fields = {"environment": "e0", "agents": ["p0", "p1"], "models": MODELS, "messages": messages_of(said)}
    status = {"status": "scored" if rewards else "unscored", "rewards": rewards}
    return Episode(**{"pk": pk, "tag": "t_neg_trial0", **fields, **status, **changes})
