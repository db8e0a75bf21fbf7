"""The parts of a demo dialogue: the history up to a state, and a row of acts with the partner's answers.

Every message value is one JSON object, on the partner's side as well; only the first human turn has text before it.
"""

import json
import random

from .background import Scenery, first_turn
from .plots import Plot
from .scenes import Need
from .wording import AGENT_LINES, PARTNER_LINES


SHARE_REWORDED = 0.2
"""Chance that an act is worded anew on the other side of a pair."""
SHARE_DEEDS = 0.1
DEEDS: tuple[str, ...] = ("pours two glasses of water", "moves a chair for {partner}", "puts the phone away")

Message = dict[str, str]


class Speaker:
    """Turns acts into messages; within one dialogue an act and its answer keep their wordings."""

    def __init__(self, rng: random.Random, scenery: Scenery, needs: tuple[Need, Need]) -> None:
        """Draw a wording for every act and answer.

        Args:
            rng: draws the wordings.
            scenery: the drawn scene.
            needs: what the partner needs, and the need that the agent's offer answers.
        """
        self.rng = rng
        self.slots = {
            **scenery.slots,
            "own": scenery.own,
            "need": needs[0].said.format(**scenery.slots),
            "offer": needs[1].answer.format(**scenery.slots),
        }
        self.wordings = {key: rng.choice(pool) for key, pool in (AGENT_LINES | PARTNER_LINES).items()}

    def take_over(self, other: "Speaker") -> None:
        """Use the wordings of another speaker, but for a few at random."""
        for key, wording in other.wordings.items():
            if self.rng.random() >= SHARE_REWORDED:
                self.wordings[key] = wording

    def line(self, key: str) -> str:
        """Return the words for an act, or for the answer to one."""
        return self.wordings[key].format(**self.slots)

    def perform(self, acts: tuple[str, ...], in_one_turn: bool = False) -> list[Message]:
        """Return the acts with the partner's answers between them; begins and ends on a gpt message."""
        if in_one_turn:
            return [message("gpt", "speak", " ".join(self.line(act) for act in acts))]
        messages = []
        for act in acts[:-1]:
            messages += [message("gpt", "speak", self.line(act)), message("human", "speak", self.line(f"reply_{act}"))]
        return [*messages, message("gpt", "speak", self.line(acts[-1]))]


def message(speaker: str, kind: str, argument: str) -> Message:
    """Return one ShareGPT message with one action."""
    return {"from": speaker, "value": json.dumps({"action_type": kind, "argument": argument}, ensure_ascii=False)}


def play_history(rng: random.Random, scenery: Scenery, plot: Plot, position: int, start: int) -> list[Message]:
    """Return the messages before index start.

    Args:
        rng: draws the small talk.
        scenery: the drawn scene.
        plot: its state is what the partner's last message tells, or the first turn if the partner has not spoken.
        position: 0 if the agent speaks first, else 1.
        start: odd; the index of the turn that comes next.
    """
    turns = start // 2
    said = [rng.choice(PARTNER_LINES["hello"])] * position + rng.sample(PARTNER_LINES["smalltalk"], turns)
    if said:
        said[-1] = rng.choice(PARTNER_LINES[plot.state])
    answers = [message("human", "speak", line.format(**scenery.slots)) for line in said]
    hint = "" if said else plot.hint.format(**scenery.slots)
    opening = answers.pop(0)["value"] if position else ""
    openers = [rng.choice(AGENT_LINES["greet"]), *rng.sample(AGENT_LINES["chat"], turns)][:turns]
    messages = [{"from": "human", "value": first_turn(rng, scenery, hint, opening)}]
    for line, answer in zip(openers, answers, strict=True):
        messages += [_chat(rng, line, scenery), answer]
    return messages


def _chat(rng: random.Random, line: str, scenery: Scenery) -> Message:
    """Return a line of small talk or, now and then, a deed."""
    if rng.random() < SHARE_DEEDS:
        return message("gpt", "action", rng.choice(DEEDS).format(**scenery.slots))
    return message("gpt", "speak", line.format(**scenery.slots))
