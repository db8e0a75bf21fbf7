"""Play the parts of a demo dialogue: the history up to a state, and a row of acts with the partner's answers.

Every message value is one JSON object, on the partner's side as well; only the first human turn has text before it.
"""

import json
import random

from .background import Stage, first_turn
from .plots import Plot
from .scenes import Need
from .wording import AGENT_LINES, PARTNER_LINES


SHARE_REWORDED = 0.2
"""Chance that an act is worded anew on the other side of a pair."""
SHARE_DEEDS = 0.1
DEEDS: tuple[str, ...] = ("pours two glasses of water", "moves a chair for {partner}", "puts the phone away")

Message = dict[str, str]


class Speaker:
    """Turn acts into messages; within one dialogue an act and its answer keep their wordings."""

    def __init__(self, rng: random.Random, stage: Stage, needs: tuple[Need, Need]) -> None:
        """Draw a wording for every act and answer.

        Args:
            rng: draws the wordings.
            stage: the drawn scene.
            needs: what the partner needs, and the need that the agent's offer answers.
        """
        self.rng = rng
        self.slots = {
            **stage.slots,
            "own": stage.own,
            "need": needs[0].said.format(**stage.slots),
            "offer": needs[1].answer.format(**stage.slots),
        }
        self.wordings = {key: rng.choice(pool) for key, pool in (AGENT_LINES | PARTNER_LINES).items()}

    def take_over(self, other: "Speaker") -> None:
        """Use the wordings of another speaker but for the odd one."""
        for key, wording in other.wordings.items():
            if self.rng.random() >= SHARE_REWORDED:
                self.wordings[key] = wording

    def line(self, key: str) -> str:
        """Return the words for an act, or for the answer to one."""
        return self.wordings[key].format(**self.slots)

    def perform(self, acts: tuple[str, ...], in_one_turn: bool = False) -> list[Message]:
        """Perform the acts with the partner's answers between them; begins and ends on a gpt message."""
        if in_one_turn:
            return [message("gpt", "speak", " ".join(self.line(act) for act in acts))]
        messages = []
        for act in acts[:-1]:
            messages += [message("gpt", "speak", self.line(act)), message("human", "speak", self.line(f"reply_{act}"))]
        return [*messages, message("gpt", "speak", self.line(acts[-1]))]


def message(speaker: str, kind: str, argument: str) -> Message:
    """Build one ShareGPT message that holds one action."""
    return {"from": speaker, "value": json.dumps({"action_type": kind, "argument": argument}, ensure_ascii=False)}


def play_history(rng: random.Random, stage: Stage, plot: Plot, position: int, start: int) -> list[Message]:
    """Play the messages before index start.

    Args:
        rng: draws the small talk.
        stage: the drawn scene.
        plot: its state is what the partner's last message tells, or the first turn if the partner has not spoken.
        position: 0 if the agent speaks first, else 1.
        start: odd; the index of the turn that comes next.
    """
    turns = start // 2
    said = [rng.choice(PARTNER_LINES["hello"])] * position + rng.sample(PARTNER_LINES["smalltalk"], turns)
    if said:
        said[-1] = rng.choice(PARTNER_LINES[plot.state])
    answers = [message("human", "speak", line.format(**stage.slots)) for line in said]
    hint = "" if said else plot.hint.format(**stage.slots)
    opening = answers.pop(0)["value"] if position else ""
    openers = [rng.choice(AGENT_LINES["greet"]), *rng.sample(AGENT_LINES["chat"], turns)][:turns]
    messages = [{"from": "human", "value": first_turn(rng, stage, hint, opening)}]
    for line, answer in zip(openers, answers, strict=True):
        messages += [_chat(rng, line, stage), answer]
    return messages


def _chat(rng: random.Random, line: str, stage: Stage) -> Message:
    """Say a line of small talk or, now and then, do something with the hands instead."""
    if rng.random() < SHARE_DEEDS:
        return message("gpt", "action", rng.choice(DEEDS).format(**stage.slots))
    return message("gpt", "speak", line.format(**stage.slots))
