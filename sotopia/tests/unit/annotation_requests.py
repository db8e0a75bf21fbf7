"""Requests to an annotator as the scripts of dpo/ make them, and sessions to make them of."""

import json
from collections.abc import Sequence

from hypothesis import strategies as st
from test_simulated import SESSION

from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Message, load_template, sharegpt_of
from sotopia_sdpo.simulated import acts
from sotopia_sdpo.simulated.annotator import AnnotationJob, job_of
from sotopia_sdpo.simulated.replies import ChatRequest


ACTS = [*acts.PHRASES, acts.LEAVE]
TEMPLATE = load_template()


def dialogue(said: Sequence[str], position: int = 0, system: bool = False) -> list[Message]:
    """Render acts of both sides in turn as the agent's dialogue; what cannot be an agent's last turn falls away."""
    actions = tuple(acts.say(act, 0.4, "Bo", "blanket") for act in said)
    found = sharegpt_of(SESSION._replace(actions=actions), position, TEMPLATE)
    return [{"from": "system", "value": "Play."}, *found] if system else found


def lines(conversations: Sequence[Message], start: int, end: int | None = None) -> str:
    """Write the lines of a block."""
    who = {"gpt": "agent", "human": "partner"}
    rows = [
        {"index": i, "who": who[turn["from"]], "turn": json.loads(turn["value"])}
        for i, turn in enumerate(conversations)
        if start <= i < (len(conversations) if end is None else end)
    ]
    return "\n".join(json.dumps(row, ensure_ascii=False).replace("<", "\\u003c") for row in rows)


def ask(first_turn: str, blocks: dict[str, str], words: str, *more: Message) -> ChatRequest:
    """Write a request."""
    told = first_turn.replace("</", "< /")
    text = f"The blocks are named <history>, <first> and <second>.\n<instructions>\n{told}\n</instructions>\n"
    text += "".join(f"<{name}>\n{body}\n</{name}>\n" for name, body in blocks.items())
    return ChatRequest("judge", [{"role": "user", "content": f"{text}{words}"}, *more], 0.0, None)


def locating(conversations: Sequence[Message], *more: Message) -> ChatRequest:
    """Ask for a turn."""
    start = next(i for i, turn in enumerate(conversations) if turn["from"] == "human")
    blocks = {"dialogue": lines(conversations, start + 1)}
    return ask(conversations[start]["value"], blocks, 'Answer with "reason" and "index".', *more)


def first_difference(negative: Sequence[Message], positive: Sequence[Message]) -> int:
    """Find where two dialogues part."""
    shorter = min(len(negative), len(positive))
    return next((i for i in range(shorter) if negative[i] != positive[i]), shorter)


def segmenting(negative: Sequence[Message], positive: Sequence[Message], *more: Message) -> ChatRequest:
    """Ask for a segment."""
    start = next(i for i, turn in enumerate(positive) if turn["from"] == "human")
    parted = first_difference(negative, positive)
    blocks = {"history": lines(positive, start + 1, parted)}
    blocks |= {"first": lines(negative, parted), "second": lines(positive, parted)}
    return ask(positive[start]["value"], blocks, "Answer with reason, start_index and end_index.", *more)


def task_for(request: ChatRequest) -> AnnotationJob:
    """Read a request that is one for an annotator."""
    task = job_of(request)
    assert task is not None
    return task


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[Message], list[Message]]:
    """Make two sessions of one agent that part somewhere in the second one."""
    position, system = draw(st.integers(0, 1)), draw(st.booleans())
    said = st.lists(st.sampled_from(ACTS), min_size=1 + position, max_size=12)
    negative, other = draw(said), draw(said)
    kept = draw(st.integers(position, len(negative)))
    positive = negative[:kept] + other
    pair = dialogue(negative, position, system), dialogue(positive, position, system)
    parted = first_difference(*pair)
    if parted == len(pair[1]):  # the second is the start of the first, so there is nothing to mark in it
        return pair[1], pair[1] + [{"from": "human", "value": Action("none").to_json()}, pair[1][-1]]
    return pair
