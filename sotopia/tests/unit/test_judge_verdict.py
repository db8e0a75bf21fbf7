"""A verdict is whole and inside its ranges, or there is none; the judge is asked again with what was wrong."""

import asyncio
import json
from typing import Any

import pytest

from sotopia_sdpo.judge.dimensions import DIMENSIONS
from sotopia_sdpo.judge.verdict import (
    EVALUATOR_ATTEMPTS,
    evaluate,
    evaluation_prompt,
    history,
    merged_background,
    read_verdict,
    response_schema,
)
from sotopia_sdpo.llm.answers import Answer, AnswerError
from sotopia_sdpo.llm.backends import Transient, Unreachable
from sotopia_sdpo.llm.client import LLMClient, Sampling
from sotopia_sdpo.llm.spec import ModelSpec, parse_model
from sotopia_sdpo.llm.usage import Meter, Usage
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Session


JUDGE = parse_model("custom/j@http://h/v1")
VIEWS = (
    "Scenario: s\nParticipants: Ann and Bo\nAnn's background: tall,\nand kind\nBo's background: Unknown\n"
    "Ann's goal: win\nBo's goal: Unknown",
    "Scenario: s\nParticipants: Ann and Bo\nAnn's background: Unknown\nBo's background: Unknown: to most\n"
    "Ann's goal: Unknown\nBo's goal: draw\nor lose",
)
SESSION = Session(("Ann", "Bo"), VIEWS, (Action("speak", "Hi"), Action("none"), Action("leave")))


def verdict(**changes: Any) -> dict[str, Any]:
    """Make a good answer: every score 0 but a goal of 7."""
    one = {d.name: {"reasoning": f"why {d.name}", "score": 7 if d.name == "goal" else 0} for d in DIMENSIONS}
    return {"agent_1": {**one, **changes}, "agent_2": one}


def test_a_verdict_is_read_in_upstreams_form() -> None:
    """The overall score is the mean: 7 / 7 = 1."""
    rewards, reasoning, *_ = read_verdict(f"Here: {json.dumps(verdict())} That is all.")
    assert rewards[0] == (1.0, {**{d.name: 0.0 for d in DIMENSIONS}, "goal": 7.0, "overall_score": 1.0})
    assert reasoning.startswith("Agent 1 comments:\nbelievability: why believability\n")
    assert "Agent 2 comments:\n" in reasoning


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"goal": {"reasoning": "r", "score": 11}}, "agent_1.goal.score is 11, expected an integer from 0 to 10"),
        ({"goal": {"reasoning": "r", "score": 7.5}}, "is 7.5"),
        ({"goal": {"reasoning": "r", "score": "11"}}, "is '11'"),
        ({"goal": {"reasoning": "r", "score": "7/10"}}, "is '7/10'"),
        ({"secret": {"reasoning": "r", "score": 1.0}}, "is 1.0, expected an integer from -10 to 0"),
        ({"goal": {"reasoning": "r", "score": True}}, "is True"),
        ({"secret": {"reasoning": "r", "score": 1}}, "from -10 to 0"),
        ({"relationship": {"reasoning": "r", "score": -6}}, "from -5 to 5"),
        ({"goal": {"reasoning": " ", "score": 7}}, "agent_1.goal.reasoning is missing"),
        ({"goal": {"score": 7}}, "agent_1.goal.reasoning is missing"),
        ({"goal": ["r", 7]}, "agent_1.goal is missing its score"),
        ({"goal": None}, "agent_1.goal is missing its score"),
    ],
)
def test_what_is_no_verdict_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(AnswerError, match=fault):
        read_verdict(json.dumps(verdict(**changes)))


@pytest.mark.parametrize("written", ["7", 7.0, " 7 ", "7.0"])
def test_an_integer_may_be_written_otherwise(written: Any) -> None:
    assert read_verdict(json.dumps(verdict(goal={"reasoning": "r", "score": written}))).rewards[0][1]["goal"] == 7


@pytest.mark.parametrize("keys", [("Agent 1", "Agent 2"), ("agent1", "AGENT-2"), ("Ann", "bo"), ("Ann", "agent_2")])
def test_an_agent_may_be_called_by_its_name(keys: tuple[str, str]) -> None:
    plain = verdict(goal={"reasoning": "r", "score": 3})
    answer = json.dumps(dict(zip(keys, plain.values(), strict=True)))
    assert read_verdict(answer, ("Ann", "Bo")) == read_verdict(json.dumps(plain))


def test_a_dimension_may_be_spelled_with_spaces() -> None:
    plain = verdict()
    spaced = {d.name.replace("_", " ").title(): plain["agent_1"][d.name] for d in DIMENSIONS}
    assert read_verdict(json.dumps({"agent_1": spaced, "agent_2": plain["agent_2"]})) == read_verdict(
        json.dumps(plain)
    )


@pytest.mark.parametrize(
    ("keys", "names", "fault"),
    [
        (("Ann", "Bo"), ("Ann", "Ann"), "no JSON object with 'agent_1'"),
        (("agent_1", "Cy"), ("Ann", "Bo"), "agent_2 is missing"),
        (("agent_1", "Ann"), ("Ann", "Bo"), "two of the keys agent_1, Ann mean the same"),
    ],
)
def test_a_key_that_may_mean_either_is_no_name(keys: tuple[str, str], names: tuple[str, str], fault: str) -> None:
    with pytest.raises(AnswerError, match=fault):
        read_verdict(json.dumps(dict(zip(keys, verdict().values(), strict=True))), names)


def test_a_draft_of_scores_is_no_verdict() -> None:
    draft, final = verdict(goal={"reasoning": "r", "score": 1}), verdict(goal={"reasoning": "r", "score": 9})
    for answer in (
        f"<think>{json.dumps(draft)}</think>{json.dumps(final)}",
        f"{json.dumps(draft)} {json.dumps(final)}",
    ):
        assert read_verdict(answer).rewards[0][1]["goal"] == 9
    with pytest.raises(AnswerError, match="no whole JSON"):
        read_verdict(f"{json.dumps(draft)} {json.dumps(final)[:-9]}")


def test_both_agents_need_one() -> None:
    with pytest.raises(AnswerError, match="agent_2 is missing"):
        read_verdict(json.dumps({"agent_1": verdict()["agent_1"]}))


class FakeClient(LLMClient):
    """Answers by a script."""

    def __init__(self, *answers: str | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.chats: list[list[dict[str, str]]] = []

    async def complete(self, _: ModelSpec, chat: list[dict[str, str]], __: Sampling, affinity: str = "") -> Answer:
        """Give the next answer."""
        self.chats.append(chat)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer, Usage(1, 10, 1))


def test_a_bad_answer_is_asked_for_again_with_its_fault() -> None:
    client = FakeClient("no", json.dumps(verdict(goal={"reasoning": "r", "score": 12})), json.dumps(verdict()))
    meter = Meter()
    found = asyncio.run(evaluate(client, JUDGE, SESSION, meter))
    assert found.rewards[0][1]["goal"] == 7 and meter.parts["evaluator"][:3] == (3, 30, 3)
    assert [m["role"] for m in client.chats[2]] == ["user", "assistant", "user"]
    assert "agent_1.goal.score is 12" in client.chats[2][2]["content"]
    assert client.notes == [f"{JUDGE.name}: 2 of 3 answers (66.7%) were not in the form that was asked for"]


def test_a_judge_that_fails_gives_no_score() -> None:
    def unscored(*answers: str | Exception) -> tuple[str, bool, int]:
        meter = Meter()
        found = asyncio.run(evaluate(FakeClient(*answers), JUDGE, SESSION, meter))
        assert found.fields() == dict(status="unscored", failure=found.failure, rewards=[], reasoning="")
        return found.failure, found.is_unreachable, meter.parts["evaluator"].calls

    text, *rest = unscored(*["no"] * EVALUATOR_ATTEMPTS)
    assert text.startswith("no usable verdict in 4 answers; the last: no JSON object") and rest == [False, 4]
    text, *rest = unscored("no", Transient("busy"))
    assert text == "the evaluator could not be called: Transient: busy" and rest == [False, 1]
    assert unscored(Unreachable("gone"))[1:] == (True, 0)


def test_the_judge_sees_what_both_knew() -> None:
    merged = merged_background(SESSION)
    assert "Ann's background: tall,\nand kind\nBo's background: Unknown: to most\nAnn's goal: win" in merged
    assert merged.endswith("Bo's goal: draw\nor lose")


def test_the_history_leaves_out_nothing_but_silence() -> None:
    assert history(SESSION) == 'Turn #1\nAnn said: "Hi"\nTurn #3\nAnn left the conversation'


def test_ranges_and_names_are_upstreams() -> None:
    from sotopia_sdpo.play.stage import load

    load()
    from sotopia.database import SotopiaDimensions

    assert [d.name for d in DIMENSIONS] == list(SotopiaDimensions.model_fields)
    good = {d.name: ("r", d.low) for d in DIMENSIONS}
    SotopiaDimensions(**good)
    for d in DIMENSIONS:
        SotopiaDimensions(**{**good, d.name: ("r", d.high)})
        for outside in (d.low - 1, d.high + 1):
            with pytest.raises(ValueError):
                SotopiaDimensions(**{**good, d.name: ("r", outside)})


def test_the_prompt_names_every_dimension_and_its_range() -> None:
    prompt = evaluation_prompt(SESSION)
    for d in DIMENSIONS:
        assert f"- {d.name} (integer from {d.low} to {d.high}): " in prompt
    assert "{{" not in prompt and list(response_schema()["properties"]) == ["agent_1", "agent_2"]
