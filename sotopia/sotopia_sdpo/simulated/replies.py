"""Answer a chat request in the role that its prompt asks for.

Comes in: a request's fields. Goes out: the text of the answer. Agents are recognised by the background they are
given, in our form (a chat of JSON turns) and in upstream's (one prompt with the history as text); evaluators by the
dimensions they are asked for, players of the package's game by its first turn. Invariant: the answer is a function of
the seed, the model's name and the content of the request (its `seed` field counts above temperature 0), never of what
was asked before.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from sotopia_sdpo.play.actions import Action, from_json, from_text
from sotopia_sdpo.play.dialogue import first_action_of
from sotopia_sdpo.simulated import acts
from sotopia_sdpo.simulated.draws import draws
from sotopia_sdpo.simulated.player import game_of, move
from sotopia_sdpo.simulated.policy import character_of, next_act
from sotopia_sdpo.simulated.rules import Event, scores


PARTICIPANTS = re.compile(r"^Participants: (.+?) and (.+?)$", re.MULTILINE)
SCENARIO = re.compile(r"^Scenario: (.*)$", re.MULTILINE)
HIDDEN = "Unknown"
EVALUATOR_WORDS = ("believability", "social_rules")
UPSTREAM_FORM = '"evaluations"'
LONG_WORD = re.compile(r"\b[a-z]{4,11}[a-rt-z]\b")
COMMON_WORDS = frozenset("about their there where which while would could should other being after before".split())
FALLBACK_THING = "matter"
READY = "ready"


class ChatRequest(NamedTuple):
    """The part of a request that an answer depends on."""

    model: str
    messages: list[dict[str, str]]
    temperature: float
    seed: int | None

    @property
    def content(self) -> str:
        """All of it as one text."""
        chosen = self.seed if self.temperature > 0 else None
        return json.dumps([self.model, self.messages, chosen], ensure_ascii=False)

    @property
    def text(self) -> str:
        """What all its messages say."""
        return "\n".join(message["content"] for message in self.messages)


class Seat(NamedTuple):
    """Who takes part, and where the one who was told sits."""

    names: tuple[str, str]
    own: int


def request_of(body: dict[str, Any]) -> ChatRequest:
    """Read a request's body.

    Raises:
        ValueError: if it is no chat request; the text says what is missing.
    """
    messages = body.get("messages")
    if not isinstance(body.get("model"), str) or not isinstance(messages, list) or not messages:
        raise ValueError("expected the fields `model` and `messages`")
    chat = [{"role": str(m.get("role")), "content": str(m.get("content") or "")} for m in messages]
    return ChatRequest(body["model"], chat, float(body.get("temperature") or 0.0), body.get("seed"))


def answer(request: ChatRequest, seed: int) -> str:
    """Return the answer of the role that is asked for."""
    text = request.text
    if all(word in text for word in EVALUATOR_WORDS):
        return evaluation(request, text, seed)
    if (game := game_of(request.messages)) is not None:
        return move(game, draws(seed, request.model), draws(seed, request.content))
    seat = seat_of(text)
    if seat is None:
        return READY
    names, own = seat
    events = _chat_events(request.messages, own) if len(request.messages) > 1 else _text_events(text, names)
    if not events and len(request.messages) == 1:
        events = _chat_events(request.messages, own)
    draw = draws(seed, request.content)
    told = text[: text.find(f"{names[1]}'s goal: ")]
    character = character_of(draws(seed, request.model), draws(seed, request.model, told))
    act = next_act(events, own, character, draw)
    return acts.say(act, draw("phrase"), names[1 - own].split()[0], _thing(text)).to_json()


def seat_of(text: str) -> Seat | None:
    """Read off a background who takes part; the goal that is hidden is the other's."""
    found = PARTICIPANTS.search(text)
    if found is None:
        return None
    names = (found[1].strip(), found[2].strip())
    return Seat(names, 1 if f"{names[0]}'s goal: {HIDDEN}" in text else 0)


def evaluation(request: ChatRequest, text: str, seed: int) -> str:
    """Score both sides by the rules, in our form or in upstream's."""
    seat = seat_of(text)
    names = seat.names if seat else ("", "")
    events = _text_events(text, names) if seat else []
    strict = int(3 * draws(seed, request.model)("strictness"))
    verdicts: dict[str, dict[str, Any]] = {}
    for side in (0, 1):
        verdict = scores(events, side)
        verdict["believability"] = max(0, verdict["believability"] - strict)
        told = ", ".join(act for who, act in events if who == side) or "nothing"
        reason = f"By the rules of the simulation; acts of {names[side] or f'agent {side + 1}'}: {told}."
        verdicts[f"agent_{side + 1}"] = {name: (reason, score) for name, score in verdict.items()}
    if UPSTREAM_FORM in text:
        return json.dumps({"evaluations": verdicts})
    return json.dumps(
        {
            agent: {name: {"reasoning": reason, "score": score} for name, (reason, score) in verdict.items()}
            for agent, verdict in verdicts.items()
        }
    )


def _chat_events(messages: list[dict[str, str]], own: int) -> list[Event]:
    """Read the acts of a chat of JSON turns; a turn that cannot be read counts as `other`."""
    start = next((i for i, message in enumerate(messages) if message["role"] == "user"), 0)
    events = opening_of(messages[start]["content"], own)
    for message in messages[start + 1 :]:
        side = own if message["role"] == "assistant" else 1 - own
        events.append((side, hear(from_json, message["content"])))
    return events


def opening_of(text: str, own: int) -> list[Event]:
    """Read the partner's first act off the end of the first human turn, if the agent speaks second."""
    return [(0, hear(first_action_of, text))] if own == 1 else []


def hear(read: Callable[[str], Action], text: str) -> str:
    """Read one act; a text in no known form counts as `other`."""
    try:
        return acts.heard(read(text))
    except ValueError:
        return acts.OTHER


def _text_events(text: str, names: tuple[str, str]) -> list[Event]:
    """Read the acts of a history written line by line; speech may span lines."""
    starts = "|".join(re.escape(name) for name in names)
    line = re.compile(
        rf"^[^\S\n]*(?:Turn #?\d+:? )?({starts}) "
        r'(said: ".*?"|\[[a-z -]+\] .*?|left the conversation|did nothing)'
        rf"(?=\s*(?:\n[^\S\n]*(?:Turn #?\d+|(?:{starts}) (?:said|\[|left|did))|\n\s*\n|\.?\s*$|\.\n))",
        re.MULTILINE | re.DOTALL,
    )
    return [
        (names.index(found[1]), hear(_sentence, found[2]))
        for found in line.finditer(text)
        if found[2] != "did nothing"
    ]


def _sentence(text: str) -> Action:
    """Read one of upstream's sentences."""
    return from_text(text)


def _thing(text: str) -> str:
    """Find a word of the scenario to talk about, always the same one for a scenario."""
    found = SCENARIO.search(text)
    words = sorted(set(LONG_WORD.findall(found[1])) - COMMON_WORDS) if found else []
    words = [word for word in words if acts.heard(Action("speak", word)) == acts.OTHER]
    if not words:
        return FALLBACK_THING
    return words[int(draws(found[1])("thing") * len(words))] if found else FALLBACK_THING
