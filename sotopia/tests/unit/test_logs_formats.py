"""Every format: recognised by its content, read into records, and what cannot be used counted by reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs.messages import UserTools
from sotopia_sdpo.logs.recognise import READERS, Format, recognise
from sotopia_sdpo.logs.sides import Sides, labels
from sotopia_sdpo.pairs.records import LoggedSide
from sotopia_sdpo.pairs.tally import Tally


CHAT = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
CALLING = [
    *({"role": "user", "content": "u"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}),
    *({"role": "tool", "tool_call_id": "1", "name": "f", "content": "r"}, {"role": "assistant", "content": "a"}),
]
CALLED = [
    *({"from": "human", "value": "u"}, {"from": "function_call", "value": '[{"name": "f", "arguments": {"x": 1}}]'}),
    *({"from": "observation", "value": "r"}, {"from": "gpt", "value": "a"}),
]


def read(path: Path, outcome: str | None = None, tools: Any = None) -> tuple[list[LoggedSide], Tally]:
    tally = Tally("dialogues")
    sides = Sides(outcome, tools, UserTools.text)
    return list(sides.read(path, path.stem, READERS[recognise(path)], tally)), tally


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def reasons(path: Path, **more: Any) -> dict[str, int]:
    return dict(read(path, **more)[1].dropped)


# ---- one by one


def tau_run(**changes: Any) -> dict[str, Any]:
    policy = {"role": "system", "content": "# Airline Agent Policy\n\nBe kind."}
    info = {"task": {"instruction": "Book a flight."}}
    return {"task_id": 3, "trial": 1, "reward": 0.0, "info": info, "traj": [policy, *CALLING, CHAT[0]], **changes}


def test_tau(tmp_path: Path) -> None:
    path = tmp_path / "tau.json"
    path.write_text(json.dumps([tau_run(), tau_run(trial=2, reward=1.0, traj=CALLING)]))
    assert recognise(path) is Format.tau
    (first, second), tally = read(path)
    assert first.dump() == {
        "conversations": [{"from": "system", "value": "# Airline Agent Policy\n\nBe kind."}, *CALLED],
        **{"episode": "tau/0", "task": "airline/3", "trial": 1, "source": "tau-bench"},
        "outcomes": [{"name": "reward", "value": 0.0, "low": 0, "high": 1}],
        "tail": [{"from": "human", "value": "u"}],
    }
    assert (second.episode, second.task, second.trial) == ("tau/1", "3", 2)
    assert tally.line() == "kept 2 of 2 dialogues"


def test_tau_runs_that_cannot_be_used(tmp_path: Path) -> None:
    failed = {"error": "timeout", "traceback": "…"}
    wrong = [tau_run(reward=value) for value in ("1.0", float("nan"), None, 1.2, [1])]
    path = tmp_path / "tau.json"
    path.write_text(json.dumps([tau_run(traj=[], info=failed), *wrong, tau_run(task_id=None), 7, tau_run(info=None)]))
    sides, tally = read(path)
    assert [side.episode for side in sides] == ["tau/8"]
    assert tally.dropped == {
        "without messages": 1,
        "with an outcome that is not a number": 3,
        "without an outcome": 1,
        "with an outcome outside its range": 1,
        "without a task": 1,
        "that are not objects": 1,
    }


def test_two_tasks_of_one_name(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", tau_run())
    other = write(tmp_path / "other.json", tau_run(info={"task": {"instruction": "Cancel it."}}))
    sides, tally = Sides(None, None, UserTools.text), Tally("dialogues")
    assert list(sides.read(one, "one", READERS[Format.tau], tally))
    with pytest.raises(UserError, match="other.json: its task airline/3 is another one than that of .*one.json"):
        list(sides.read(other, "other", READERS[Format.tau], tally))


def tau2_file(*runs: dict[str, Any], **info: Any) -> dict[str, Any]:
    environment = {"domain_name": "telecom", "policy": "Be kind.", "tool_defs": None, **info}
    return {
        "simulations": runs,
        "info": {"agent_info": {"llm": "gpt-4.1"}, "environment_info": environment},
        "tasks": [],
    }


def tau2_run(**changes: Any) -> dict[str, Any]:
    messages = [
        *(
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": None, "tool_calls": [{"id": "u1", "name": "look", "arguments": {}}]},
        ),
        *(
            {"role": "tool", "id": "u1", "content": "off", "requestor": "user"},
            {"role": "user", "content": "It is off."},
        ),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "name": "f", "arguments": {"x": 1}}, {"id": "2", "name": "g", "arguments": {}}],
        },
        *({"role": "tool", "id": "2", "content": "s"}, {"role": "tool", "id": "1", "content": "r"}),
        *({"role": "assistant", "content": "Bye"}, {"role": "user", "content": "###STOP###"}),
    ]
    reward = {"reward": 0.0, "reward_breakdown": {"DB": 0.0, "COMMUNICATE": 1.0, "NOTE": "x"}}
    return {
        "task_id": "[a]b|c",
        "trial": 0,
        "termination_reason": "user_stop",
        "reward_info": reward,
        "messages": messages,
        **changes,
    }


def test_tau2(tmp_path: Path) -> None:
    path = write(
        tmp_path / "tau2.json",
        tau2_file(tau2_run(), tool_defs={"f": {"name": "f", "doc": "Does f.", "params": {"x": 1}}}),
    )
    assert recognise(path) is Format.tau2
    (side,), tally = read(path)
    assert side.dump() == {
        "conversations": [
            {"from": "system", "value": "Be kind."},
            {"from": "gpt", "value": "Hi"},
            {"from": "human", "value": "[calls look({})]\n[result off]\nIt is off."},
            {
                "from": "function_call",
                "value": '[{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]',
            },
            *(
                {"from": "observation", "value": "r"},
                {"from": "observation", "value": "s"},
                {"from": "gpt", "value": "Bye"},
            ),
        ],
        "tools": json.dumps([{"name": "f", "description": "Does f.", "parameters": {"x": 1}}]),
        **{
            "episode": "tau2/0",
            "task": "telecom/[a]b|c",
            "trial": 0,
            "source": "tau2-bench",
            "agent_model": "gpt-4.1",
        },
        "user_tools": "text",
        "outcomes": [
            {"name": name, "value": value, "low": 0, "high": 1}
            for name, value in (("reward", 0.0), ("DB", 0.0), ("COMMUNICATE", 1.0))
        ],
        "tail": [{"from": "human", "value": "###STOP###"}],
    }
    assert tally.note_lines() == [
        "note: 1 dialogues have a user who calls tools; that is kept as text of the user's turns"
    ]


def test_tau2_runs_that_cannot_be_used(tmp_path: Path) -> None:
    runs = [
        *(tau2_run(termination_reason=reason) for reason in ("max_steps", "max_steps", "too_many_errors")),
        *(tau2_run(reward_info=None), tau2_run(reward_info={"reward": None}), tau2_run(messages=None)),
        tau2_run(messages=[{"role": "user", "content": "UklGRg==", "is_audio": True}]),
    ]
    assert reasons(write(tmp_path / "tau2.json", tau2_file(*runs))) == {
        "that were not judged (max_steps)": 2,
        "that were not judged (too_many_errors)": 1,
        "without an outcome": 2,
        "without messages": 1,
        "with content other than text": 1,
    }


def test_chats_of_openai(tmp_path: Path) -> None:
    path = write(
        tmp_path / "chats.jsonl",
        {"messages": CALLING, "tools": TOOLS, "reward": 0.25, "task_id": "t", "trial": 4, "model": "m"},
        {"messages": CHAT, "label": True, "score": 3},
        {"messages": [CHAT[0], {"role": "assistant", "content": "b"}], "label": False},
        {"messages": CHAT},
        {"messages": CHAT, "reward": "good"},
        {"messages": CHAT, "reward": 1, "tools": "f(x)"},
        {"messages": CHAT, "reward": 1, "tools": ["f"]},
    )
    assert recognise(path) is Format.openai
    sides, tally = read(path)
    assert sides[0].dump() == {
        **{
            "conversations": CALLED,
            "tools": json.dumps(TOOLS),
            "episode": "chats/0",
            "task": "t",
            "trial": 4,
            "source": "openai",
        },
        **{"agent_model": "m", "outcomes": [{"name": "reward", "value": 0.25}]},
    }
    # What stands before the agent's first turn names the task, and the trials of it are counted.
    assert sides[1].task == sides[2].task and [side.trial for side in sides[1:]] == [0, 1]
    assert [(one.name, one.value, one.high) for one in sides[1].outcomes] == [("score", 3, None), ("label", 1, 1)]
    assert tally.dropped == {
        "without an outcome": 1,
        "with an outcome that is not a number": 1,
        "with tools that are not JSON": 1,
        "with tools that are not a list of descriptions": 1,
    }


def test_an_outcome_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "chats.jsonl", {"messages": CHAT, "kindness": 0.5}, {"messages": CHAT, "reward": 1})
    sides, tally = read(path, "kindness")
    assert [one.name for one in sides[0].outcomes] == ["kindness"]
    assert tally.dropped == {"without the outcome kindness": 1}


def test_a_label_may_be_a_word_beside_a_reward(tmp_path: Path) -> None:
    path = write(tmp_path / "chats.jsonl", {"messages": CHAT, "reward": 1, "label": "billing"})
    assert [one.name for one in read(path)[0][0].outcomes] == ["reward"]
    assert reasons(path, outcome="label") == {"with an outcome that is not a number": 1}


def test_halves_of_surrogate_pairs_in_what_is_json_within_json(tmp_path: Path) -> None:
    """Arguments and descriptions of tools are read a second time; no file takes what may come out."""
    call = {"name": "f", "arguments": '{"x": "\\ud800"}'}
    called = [CHAT[0], {"role": "assistant", "tool_calls": [call]}]
    path = write(tmp_path / "chats.jsonl", {"messages": called, "reward": 1, "tools": '[{"name": "\\ud800"}]'})
    json.dumps(read(path)[0][0].dump(), ensure_ascii=False).encode()
    turns = [{"from": "human", "value": "u"}, {"from": "function_call", "value": json.dumps(call)}]
    path = write(tmp_path / "turns.jsonl", {"conversations": turns, "reward": 1})
    json.dumps(read(path)[0][0].dump(), ensure_ascii=False).encode()


def test_tools_are_given_where_there_are_none(tmp_path: Path) -> None:
    path = write(
        tmp_path / "chats.jsonl", {"messages": CHAT, "reward": 1}, {"messages": CHAT, "reward": 1, "tools": TOOLS}
    )
    given = [{"name": "g"}]
    assert [side.tools for side in read(path, tools=given)[0]] == [given, TOOLS]


def test_sharegpt(tmp_path: Path) -> None:
    called = [
        *CALLED[:1],
        {"from": "function_call", "value": 'wait\n<tool_call>{"name": "f", "arguments": {}}</tool_call>'},
        *CALLED[2:],
    ]
    path = write(
        tmp_path / "dialogues.json",
        {"conversations": CALLED, "system": "s", "tools": json.dumps(TOOLS), "score": 2},
        {
            "conversations": [*called, {"from": "user", "value": "v"}, {"from": "gpt", "value": "b", "weight": 0.5}],
            "score": 1,
        },
        {"conversations": [{"from": "bing", "value": "x"}], "score": 1},
        {"conversations": [CALLED[0], {"from": "function_call", "value": "f()"}], "score": 1},
        {"conversations": 5, "score": 1},
    )
    assert recognise(path) is Format.sharegpt
    (first, second), tally = read(path)
    assert first.conversations == [{"from": "system", "value": "s"}, *CALLED] and first.tools == TOOLS
    assert second.conversations[1]["value"] == 'wait\n<tool_call>[{"name": "f", "arguments": {}}]</tool_call>'
    assert second.conversations[-1] == {"from": "gpt", "value": "b", "weight": 0.5}
    assert tally.dropped == {
        "with a message of an unknown role": 1,
        "with a call whose arguments are not a JSON object": 1,
        "without messages": 1,
    }


def test_verifiers(tmp_path: Path) -> None:
    """Calls are JSON texts in the lines, of OpenAI's form or flat."""
    completion = [
        {"role": "assistant", "content": "", "tool_calls": [json.dumps(CALL)]},
        {"role": "tool", "tool_call_id": "1", "content": "r"},
        {"role": "assistant", "content": "", "tool_calls": [json.dumps({"id": "2", "name": "g", "arguments": "{}"})]},
        *({"role": "tool", "tool_call_id": "2", "content": "s"}, {"role": "assistant", "content": "a"}),
    ]
    line = {
        "example_id": 7,
        "prompt": CHAT[:1],
        "completion": completion,
        "reward": 0.5,
        "metrics": {"speed": 2.0, "reward": 9},
        "error": None,
    }
    path = write(
        tmp_path / "results.jsonl",
        *(line, {**line, "metrics": {}, "speed": 3.0}, {**line, "error": {"error": "Timeout"}, "reward": 0.0}),
        *({**line, "prompt": "1+1="}, {**line, "reward": None}, {**line, "example_id": None}),
        {**line, "completion": [{"role": "assistant", "tool_calls": ["{"]}]},
    )
    metadata = {"env_id": "sums", "model": "m", "avg_metrics": {"speed": 2.5}, "tools": [{"name": "f"}]}
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    assert recognise(path) is Format.verifiers
    sides, tally = read(path)
    assert sides[0].dump() == {
        "conversations": [
            *CALLED[:3],
            *(
                {"from": "function_call", "value": '[{"name": "g", "arguments": {}}]'},
                {"from": "observation", "value": "s"},
            ),
            CALLED[3],
        ],
        **{
            "tools": '[{"name": "f"}]',
            "episode": "results/0",
            "task": "sums/7",
            "trial": 0,
            "source": "verifiers",
            "agent_model": "m",
        },
        "outcomes": [{"name": "reward", "value": 0.5}, {"name": "speed", "value": 2.0}],
    }
    assert sides[1].trial == 1 and [(one.name, one.value) for one in sides[1].outcomes] == [
        ("reward", 0.5),
        ("speed", 3.0),
    ]
    assert tally.dropped == {
        "whose run failed": 1,
        "that are text to complete, not a chat": 1,
        "without an outcome": 1,
        "without a task": 1,
        "with a call whose arguments are not a JSON object": 1,
    }
    (tmp_path / "metadata.json").write_text('{"avg_metrics": 1}')
    assert [len(side.outcomes) for side in read(path)[0]] == [2, 1]
    (tmp_path / "metadata.json").write_text("[]")
    with pytest.raises(UserError, match="cannot be read"):
        list(READERS[Format.verifiers].records(Path("/")))
    with pytest.raises(UserError, match="metadata.json record 0: expected '{', found '\\[\\]'"):
        read(path)


# ---- which format it is, and what each file is called


@pytest.mark.parametrize(
    "text, fault",
    [
        ("", "the file is empty"),
        ("reward 1", "not a log of a known format; expected one of the fields traj (tau)"),
        ("[]", "not a log of a known format"),
        ("[1]", "found no object"),
        ('{"a": 1, "b": 2}', "found a, b"),
        ('{"messages": [], "conversations": []}', "may be openai or sharegpt by its fields; say which with --format"),
        ('[{"messages": ', "record 0: not JSON"),
        ("[" * 300 + "]" * 300, "not a log of a known format; "),
    ],
)
def test_a_file_of_no_known_format(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(UserError) as found:
        recognise(path)
    assert str(path) in str(found.value) and fault in str(found.value)


def test_files_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("a/results.jsonl", "b/results.jsonl", "b/other.json"))
    assert labels([one, three]) == ["results", "other"]
    assert labels([one, two, three]) == ["a/results", "b/results", "b/other"]
    with pytest.raises(UserError, match="given 2 times"):
        labels([one, three, tmp_path / "b" / ".." / "a" / "results.jsonl"])
    # Only the ending tells these apart.
    assert labels([one, one.with_suffix(".json"), three]) == ["results.jsonl", "results.json", "other.json"]


def test_a_value_that_is_nested_300_deep(tmp_path: Path) -> None:
    """In a call it is a text of its turn; in a description of tools no writer can be sure of it."""
    deep = json.loads('{"x":' * 300 + "1" + "}" * 300)
    called = [CHAT[0], {"role": "assistant", "tool_calls": [{"name": "f", "arguments": deep}]}]
    path = write(
        tmp_path / "deep.jsonl",
        {"messages": called, "reward": 1},
        {"messages": CHAT, "reward": 1, "tools": [deep]},
        {"messages": deep, "reward": 1},
        {"messages": CHAT, "reward": deep},
    )
    sides, tally = read(path)
    assert json.loads(sides[0].conversations[1]["value"]) == [{"name": "f", "arguments": deep}]
    assert sorted(tally.dropped) == [
        "with an outcome that is not a number",
        "with tools that are not a list of descriptions",
        "without messages",
    ]
