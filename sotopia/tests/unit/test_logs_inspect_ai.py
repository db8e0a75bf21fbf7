"""Logs of inspect_ai, written by its own writer and read back by its own reader; without it, the line that says so."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs import inspect_ai as reader
from sotopia_sdpo.logs.messages import UserTools
from sotopia_sdpo.logs.recognise import Format, recognise
from sotopia_sdpo.logs.sides import Sides
from sotopia_sdpo.pairs.records import LoggedSide
from sotopia_sdpo.pairs.tally import Tally


IS_INSTALLED = importlib.util.find_spec("inspect_ai") is not None
needs_inspect = pytest.mark.skipif(not IS_INSTALLED, reason="inspect_ai is not installed; pip install inspect_ai")
LONG = "a long result " * 50
"""Inspect keeps such texts aside, as attachments."""


def written(path: Path) -> Path:
    """Write a log of three samples: one of two epochs, graded C and I, and one that failed."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
        ContentReasoning,
        ContentText,
    )
    from inspect_ai.scorer import Score
    from inspect_ai.tool import ToolCall, ToolCallError

    def sample(epoch: int, grade: Any, **more: Any) -> EvalSample:
        call = ToolCall(id="c1", function="add", arguments={"x": 1, "y": 1})
        wrong = ToolCall(id="c2", function="add", arguments={"x": 1})
        error = ToolCallError(type="parsing", message="y is missing")
        messages = [
            ChatMessageSystem(content="Be terse."),
            ChatMessageUser(content="1+1?"),
            ChatMessageAssistant(
                content=[ContentReasoning(reasoning="hm"), ContentText(text="I add.")], tool_calls=[call, wrong]
            ),
            ChatMessageTool(content="", tool_call_id="c2", function="add", error=error),
            ChatMessageTool(content=LONG, tool_call_id="c1", function="add"),
            ChatMessageAssistant(content=f"{2 + epoch}"),
        ]
        scores = {"includes": Score(value=grade), "parts": Score(value={"form": 0.5, "why": "N/A"})}
        return EvalSample(id="a", epoch=epoch, input="1+1?", target="3", messages=messages, scores=scores, **more)

    spec = EvalSpec(
        created="2026-01-01T00:00:00+00:00",
        task="sums",
        dataset=EvalDataset(),
        model="mockllm/model",
        config=EvalConfig(),
    )
    from inspect_ai.log import EvalError

    failed = EvalError(message="out of luck", traceback="", traceback_ansi="")
    unscored = sample(4, float("nan"))
    unscored.scores = None
    samples = [sample(1, "C"), sample(2, "I"), sample(3, "C", error=failed), unscored]
    write_eval_log(EvalLog(status="success", eval=spec, samples=samples), str(path), format=path.suffix[1:])
    return path


@needs_inspect
@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_a_log_in_both_of_its_forms(tmp_path: Path, suffix: str) -> None:
    path, tally = written(tmp_path / f"sums.{suffix}"), Tally("dialogues")
    assert recognise(path) is Format.inspect
    sides = list(Sides(None, None, UserTools.text).read(path, "sums", reader.READER, tally))
    assert tally.line() == "kept 2 of 4 dialogues (1 whose run failed, 1 without an outcome)"
    assert [note for note in tally.notes] == ["dialogues hold reasoning of the agent's, which is left out"]
    assert [(side.task, side.trial, side.agent_model) for side in sides] == [
        ("sums/a", 0, "mockllm/model"),
        ("sums/a", 1, "mockllm/model"),
    ]
    assert [[(one.name, one.value, one.high) for one in side.outcomes] for side in sides] == [
        [("includes", 1, 1), ("parts/form", 0.5, None)],
        [("includes", 0, 1), ("parts/form", 0.5, None)],
    ]
    calls = [{"name": "add", "arguments": {"x": 1, "y": 1}}, {"name": "add", "arguments": {"x": 1}}]
    assert sides[0].conversations == [
        {"from": "system", "value": "Be terse."},
        {"from": "human", "value": "1+1?"},
        {"from": "function_call", "value": f"I add.\n<tool_call>{json.dumps(calls)}</tool_call>"},
        {"from": "observation", "value": LONG},
        {"from": "observation", "value": "y is missing"},
        {"from": "gpt", "value": "3"},
    ]
    assert all(isinstance(side, LoggedSide) for side in sides)


@needs_inspect
def test_grades_are_inspects_numbers() -> None:
    from inspect_ai.scorer import value_to_float

    to_float = value_to_float()
    assert {grade: to_float(grade) for grade in reader.GRADES} == reader.GRADES


@needs_inspect
def test_a_broken_archive(tmp_path: Path) -> None:
    path = tmp_path / "broken.eval"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match="broken.eval: inspect_ai cannot read it .* expected a log that it wrote"):
        list(reader.samples(path))


@pytest.mark.skipif(IS_INSTALLED, reason="inspect_ai is installed here")
def test_without_the_package(tmp_path: Path) -> None:
    path = tmp_path / "sums.json"
    path.write_text(json.dumps({"version": 2, "status": "success", "eval": {}}))
    assert recognise(path) is Format.inspect
    with pytest.raises(UserError, match="sums.json: a log of inspect_ai, .*; `pip install inspect_ai`"):
        list(reader.samples(path))


@pytest.mark.parametrize(
    "value, expected",
    [
        ("C", [1]),
        ("P", [0.5]),
        ("i", []),
        ("Yes", [1]),
        ("good", []),
        (True, [1]),
        (3, [3]),
        (float("nan"), []),
        ([1], []),
    ],
)
def test_what_is_no_score_is_none(value: Any, expected: list[float]) -> None:
    assert [one.value for one in reader._outcomes("grader", value)] == expected
