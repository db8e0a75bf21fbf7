"""One episode from its work item to its record, with models that answer by script."""

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from small_world import make_run
from test_judge_verdict import verdict
from test_play_stage import profiles

from sotopia_sdpo.judge.rejudge import rejudge
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.backends import Refused, Transient, Unreachable
from sotopia_sdpo.llm.client import LLMClient, Sampling
from sotopia_sdpo.llm.spec import ModelSpec, parse_model
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.play.episode import ANSWER_ATTEMPTS, SEED_STEP
from sotopia_sdpo.run.execute import note_marks, sample
from sotopia_sdpo.run.plan import WorkItem, items_of_combos
from sotopia_sdpo.run.runner import Ran
from sotopia_sdpo.world.cast import Cast
from sotopia_sdpo.world.combos import Combo


SPEAK, LEAVE = (json.dumps({"action_type": kind, "argument": "Hi"}) for kind in ("speak", "leave"))
GOOD = json.dumps(verdict())


class Client(LLMClient):
    """Answers the agents and the judge by a script each, and keeps what they were asked."""

    def __init__(self, agents: Sequence[str | Exception], judge: Sequence[str | Exception] = (GOOD,)) -> None:
        super().__init__()
        self.scripts = {"custom/judge@http://h/v1": list(judge)}
        self.agents = list(agents)
        self.asked: list[tuple[str, list[dict[str, str]], Sampling, str]] = []

    async def complete(
        self, model: ModelSpec, chat: list[dict[str, str]], sampling: Sampling, affinity: str = ""
    ) -> Answer:
        """Give the next answer."""
        self.asked.append((model.name, chat, sampling, affinity))
        answer = self.scripts.get(model.name, self.agents).pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer, Usage(1, 10, 1, None))


def item() -> WorkItem:
    """Make the work of one session of two models, the first one the target."""
    run = make_run(partner="n", target_temperature=1.0)
    return items_of_combos(run, [Combo("e", ("a", "b"))])[0]


def run(client: Client) -> Ran:
    """Play it and have it judged."""
    scenario, people = profiles()
    return asyncio.run(sample(client, item(), Cast(scenario, (people[0], people[1]))))


def test_an_episode_and_what_was_asked_for_it() -> None:
    """The second answer is no action: it is asked for again, the same chat with the next seed."""
    client = Client([SPEAK, "no", SPEAK, LEAVE])
    episode, is_unreachable = run(client)
    assert episode.status == "scored" and episode.key == item().key and not is_unreachable
    assert episode.models == ["custom/judge@http://h/v1", "custom/m@http://h/v1", "custom/n@http://h/v1"]
    calls = {name: usage["calls"] for name, usage in episode.usage.items() if name != "seconds"}
    assert calls == {"agent_0": 2, "agent_1": 2, "evaluator": 1} and episode.usage["seconds"] >= 0
    agents = client.asked[:4]
    turns = [0, 6, 7, 12]
    assert [sampling.seed for _, _, sampling, _ in agents] == [
        (item().seed + SEED_STEP * turn) % 2**31 for turn in turns
    ]
    assert [sampling.temperature for _, _, sampling, _ in agents] == [1.0, 0.7, 0.7, 1.0]
    assert [affinity for *_, affinity in agents] == [f"{item().key.pk}/{position}" for position in (0, 1, 1, 0)]
    assert agents[1][1] == agents[2][1] and client.asked[4][2].seed is None
    told = "custom/n@http://h/v1: 1 of 2 answers (50.0%) were not in the form that was asked for"
    assert client.notes == [told]


@pytest.mark.parametrize(
    ("agents", "judge", "status", "failure", "is_unreachable"),
    [
        ([SPEAK, Unreachable("gone")], [], "failed", "Unreachable: gone", True),
        ([SPEAK, Transient("busy")], [], "failed", "Transient: busy", False),
        (["Unreachable"] * ANSWER_ATTEMPTS, [], "failed", "AnswerError: custom/m@http://h/v1 gave no usable action in 6 answers", False),
        ([LEAVE], ["no", Unreachable("gone")], "unscored", "the evaluator could not be called: Unreachable: gone", True),
        ([LEAVE], [Refused("Unreachable")], "unscored", "the evaluator could not be called: Refused: Unreachable", False),
        ([LEAVE], ["Unreachable"] * 4, "unscored", "no usable verdict in 4 answers", False),
    ],
)  # fmt: skip
def test_a_server_that_is_not_there_is_told_by_its_error_not_by_a_word(
    agents: list[str | Exception], judge: list[str | Exception], status: str, failure: str, is_unreachable: bool
) -> None:
    found = run(Client(agents, judge))
    assert found.episode.status == status and found.episode.failure.startswith(failure)
    assert found.is_unreachable == is_unreachable


def test_a_session_that_was_left_without_scores_is_judged_as_it_is() -> None:
    left = run(Client([SPEAK, LEAVE], ["no"] * 4)).episode
    evaluator: Any = parse_model("custom/judge@http://h/v1")
    found, is_unreachable = asyncio.run(rejudge(Client([]), evaluator, left))
    assert found.status == "scored" and not found.failure and found.messages == left.messages and not is_unreachable
    assert found.usage == {**left.usage, "evaluator": Usage(1, 10, 1, None).record()}


def test_judging_again_keeps_what_is_noted_of_the_agents() -> None:
    """Their part was played in another process: by a scripted model, and by one whose server takes no seed."""
    agent, judge, stern = (f"custom/{name}@http://h/v1" for name in ("m", "judge", "stern"))
    noted = {"simulated": [judge, agent], "left_out": {agent: {"action": ["seed"]}, judge: {"evaluation": ["seed"]}}}
    left = run(Client([SPEAK, LEAVE])).episode.model_copy(update={"models": [stern, agent, agent], "settings": noted})
    client: Any = SimpleNamespace(simulated=set(), left_out={stern: {"evaluation": ["temperature 0.0"]}})
    note_marks(left, client)
    assert left.settings == {
        "simulated": [agent],
        "left_out": {stern: {"evaluation": ["temperature 0.0"]}, agent: {"action": ["seed"]}},
    }


def test_two_characters_of_one_name_are_a_failed_episode() -> None:
    """Nothing is asked for it, and the others of the run go on."""
    scenario, people = profiles()
    client = Client([])
    ran = asyncio.run(sample(client, item(), Cast(scenario, (people[0], people[0]))))
    assert ran.episode.status == "failed" and not ran.is_unreachable and client.asked == []
    assert "both characters are called 'Ann Lee'" in ran.episode.failure
