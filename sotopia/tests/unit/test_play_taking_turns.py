"""Another stage than SOTOPIA's, made as CONTRIBUTING.md says, is played, replayed and read back by the same code."""

import asyncio
import json

from test_run_execute import LEAVE, Client, item

from sotopia_sdpo.llm.usage import Meter
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import ENVIRONMENT, Session, session_of, sharegpt_of
from sotopia_sdpo.play.episode import Played, play
from sotopia_sdpo.play.taking_turns import Messages


class NumberGame:
    """A setter says a number, a guesser names it; over when the guess is right or somebody leaves."""

    names = ("Setter", "Guesser")
    backgrounds = ("Say a number.", "Name the number.")

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.messages: Messages = [[(ENVIRONMENT, *told) for told in zip(self.names, self.backgrounds, strict=True)]]
        self.is_over = False

    @property
    def session(self) -> Session:
        return Session(self.names, self.backgrounds, tuple(self.actions))

    @property
    def actor(self) -> int:
        return len(self.actions) % 2

    def play(self, action: Action) -> None:
        self.messages[-1].append((self.names[self.actor], ENVIRONMENT, action.to_text()))
        is_right = bool(self.actions) and action.argument == self.actions[0].argument
        self.actions.append(action)
        self.is_over = action.action_type == "leave" or is_right
        self.messages.append([])


def played(*answers: str, history: tuple[Action, ...] = ()) -> tuple[Played, Client]:
    client, script = Client(answers), item().script._replace(history=history)
    return asyncio.run(play(client, NumberGame, script, Meter())), client  # type: ignore[arg-type]


def says(text: str) -> str:
    return json.dumps({"action_type": "speak", "argument": text})


def test_a_session_is_played_to_its_end_and_read_back() -> None:
    found, client = played(says("7"), says("6"), says("wrong"), says("7"))
    assert found.session and [action.argument for action in found.session.actions] == ["7", "6", "wrong", "7"]
    assert session_of(found.messages) == found.session
    assert "Name the number." in client.asked[1][1][0]["content"]
    dialogue = sharegpt_of(found.session, 1, item().run.template)
    assert [turn["from"] for turn in dialogue] == ["human", "gpt", "human", "gpt"]


def test_a_history_is_replayed_without_asking() -> None:
    found, client = played(LEAVE, history=(Action("speak", "7"), Action("speak", "6")))
    assert found.session and len(found.session.actions) == 3 and len(client.asked) == 1
    late, _ = played(history=(Action("leave"), Action("speak", "7")))
    assert late.session is None and "the session is over after 1 turns" in late.failure
