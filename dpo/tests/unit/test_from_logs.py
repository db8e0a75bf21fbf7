"""from_logs.py on published logs, with nothing lost, and what it writes and says of small ones and of wrong input."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from running import Command

from sotopia_sdpo.pairs.records import PreferencePair, read_pairs
from sotopia_sdpo.pairs.segments import parted_pairs, parting
from sotopia_sdpo.pairs.tally import Tally


AGENTS = ROOT.parent / "shared" / "data" / "agents"
TAU = AGENTS / "tau_airline_gpt4o_200.json"
needs_agents = pytest.mark.skipif(not AGENTS.is_dir(), reason="the published logs of agents are not here")


def read(home: Path, name: str = "dialogues.json") -> list[dict[str, Any]]:
    return json.loads((home / name).read_text("utf-8"))


# ---- published logs


def raw_dialogues(path: Path) -> list[list[dict[str, Any]]]:
    found = json.loads(path.read_text("utf-8"))
    return (
        [one["traj"] for one in found]
        if isinstance(found, list)
        else [one["messages"] for one in found["simulations"]]
    )


def pieces(messages: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield whatever was said, called, or given, in its order."""
    for message in messages:
        if message["content"] is not None:
            yield message["role"], message["content"]
        for call in message.get("tool_calls") or []:
            function = call.get("function", call)
            arguments = function["arguments"]
            yield "call", (function["name"], json.loads(arguments) if isinstance(arguments, str) else arguments)


def turns_of(record: dict[str, Any]) -> list[dict[str, str]]:
    return [*record["conversations"], *record.get("tail", [])]


def pieces_of(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the same of a record, but the words of a user's turn, which may be several messages."""
    for turn in turns_of(record):
        text, calls = turn["value"], ""
        if turn["from"] == "function_call":
            marked = text.endswith("</tool_call>")
            text, _, calls = text.removesuffix("</tool_call>").partition("<tool_call>") if marked else ("", "", text)
            text = text.removesuffix("\n")
        if text or not calls:
            yield (
                {"gpt": "assistant", "function_call": "assistant", "observation": "tool"}.get(
                    turn["from"], turn["from"]
                ),
                text,
            )
        for call in json.loads(calls) if calls else []:
            yield "call", (call["name"], call["arguments"])


@needs_agents
@pytest.mark.parametrize(
    "name, count, tasks",
    [
        ("tau_airline_gpt4o_200.json", 200, "50 tasks, mean reward 0.42"),
        ("tau2_airline_gpt41.json", 20, "20 tasks, mean reward 0.50, mean DB 0.50, mean COMMUNICATE 1.00"),
    ],
)
def test_every_message_call_and_result_is_there_once(
    inside: Command, home: Path, name: str, count: int, tasks: str
) -> None:
    done = inside("from_logs", str(AGENTS / name))
    assert done.code == 0 and f"kept {count} of {count} dialogues -> " in done.out and tasks in done.out
    records = read(home)
    for record, messages in zip(records, raw_dialogues(AGENTS / name), strict=True):
        policy = [] if messages[0]["role"] == "system" else [("system", record["conversations"][0]["value"])]
        expected = [*policy, *pieces(messages)]
        assert [("user" if one == "human" else one, what) for one, what in pieces_of(record)] == expected


@needs_agents
def test_a_user_with_tools_loses_nothing(inside: Command, home: Path) -> None:
    """What the user says, calls and sees stands in the human turns, in its order; the rest is the agent's."""
    path = AGENTS / "tau2_telecom_gpt41.json"
    done = inside("from_logs", str(path))
    assert "kept 40 of 40 dialogues" in done.out and "note: 40 dialogues have a user who calls tools" in done.out
    for record, messages in zip(read(home), raw_dialogues(path), strict=True):
        own = [one for one in messages if one.get("requestor", one["role"]) != "user"]
        assert [one for one in pieces_of(record) if one[0] not in ("human", "system")] == list(pieces(own))
        said = "\n".join(turn["value"] for turn in turns_of(record) if turn["from"] == "human") + "\n"
        lines = [
            f"[calls {what[0]}({json.dumps(what[1])})]"
            if kind == "call"
            else f"[result {what}]"
            if kind == "tool"
            else what
            for kind, what in pieces([one for one in messages if one.get("requestor", one["role"]) == "user"])
        ]
        assert said == "".join(f"{line}\n" for line in lines)
    dropped = inside("from_logs", str(path), "--user-tools", "drop")
    assert "that is left out" in dropped.out and "[calls " not in (home / "dialogues.json").read_text("utf-8")


@needs_agents
def test_all_pairs_of_a_failed_and_a_successful_trial(inside: Command, home: Path) -> None:
    done = inside("from_logs", str(TAU), "--pairs", "eto")
    assert "kept 88 of 88 pairs of a failed and a successful trial -> " in done.out
    raw = json.loads(TAU.read_text("utf-8"))
    expected = [
        (number, other)
        for number, one in enumerate(raw)
        for other, two in enumerate(raw)
        if one["task_id"] == two["task_id"] and one["reward"] < 1 <= two["reward"]
    ]
    pairs = read_pairs(home / "eto_data.json", "from_logs.py")
    episodes = [tuple(int(side.episode.rpartition("/")[2]) for side in pair) for pair in pairs]
    assert sorted(episodes) == sorted(expected) and len(pairs) == 88


@needs_agents
def test_pairs_that_share_their_state(run: Command, inside: Command, home: Path) -> None:
    """None shares its first words; most share their first calls, and part in a turn of the agent's."""
    words = run("from_logs", str(TAU), "--pairs", "sdpo")
    assert words.code == 2 and "kept 0 of 88" in words.err and "--match state" in words.err and not home.exists()
    done = inside("from_logs", str(TAU), "--pairs", "sdpo", "--match", "state")
    assert "kept 63 of 88 pairs of a failed and a successful trial (24 that share no first call and result" in done.out
    assert "note: 63 of the pairs share calls and results, not the words before them (match: state)" in done.out
    pairs = read_pairs(home / "preference_data.json", "from_logs.py")
    whole = {record["episode"]: record["conversations"] for record in read(home)}
    for pair in pairs:
        start = parting(pair.negative.conversations, pair.positive.conversations)
        own = whole[pair.positive.episode]
        assert pair.negative.conversations == whole[pair.negative.episode] and pair.positive.match == "state"
        assert pair.positive.conversations[start:] == own[len(own) - len(pair.positive.conversations) + start :]
    assert len(parted_pairs([PreferencePair(*pair) for pair in pairs], Tally("pairs"))) == 63


# ---- small logs, and what users get wrong


def chat(reward: Any, answer: str = "a", **more: Any) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *({"role": "user", "content": "u"}, {"role": "assistant", "content": None, "tool_calls": [call]}),
        *({"role": "tool", "tool_call_id": "1", "content": "r"}, {"role": "assistant", "content": answer}),
    ]
    return {"messages": messages, "reward": reward, **more}


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    rows = [chat(0), chat(1, "b"), chat(None), {**chat(0), "messages": []}, chat(0.5, "c", task_id="other")]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_truly_shared_history(inside: Command, home: Path, chats: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text('[{"name": "f", "description": "Does f.", "parameters": {"type": "object", "properties": {}}}]')
    done = inside("from_logs", str(chats), "--pairs", "sdpo", "--at-least", "1", "--tools", "tools.json")
    assert done.out.splitlines() == [
        "chats.jsonl: openai by its content (--format says otherwise)",
        f"kept 3 of 5 dialogues (1 without an outcome, 1 without messages) -> {home / 'dialogues.json'}",
        "2 tasks, mean reward 0.50",
        "failed is reward under 1, successful is 1 or more",
        f"kept 1 of 1 pairs of a failed and a successful trial -> {home / 'preference_data.json'}",
        "note: 1 tasks lack a failed or a successful trial",
    ]
    negative, positive = read(home, "preference_data.json")
    assert (negative["side"], positive["side"]) == ("negative", "positive") and "match" not in negative
    assert negative["tools"] == positive["tools"]
    assert json.loads(negative["tools"]) == json.loads(tools.read_text())
    assert negative["outcome_gains"] == {"reward": 1}


def test_calls_without_descriptions_of_tools_are_said(inside: Command, chats: Path) -> None:
    done = inside("from_logs", str(chats))
    assert "note: 3 dialogues have calls but no descriptions of tools; give them with --tools" in done.out


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (("missing.json",), "missing.json: cannot be read (No such file or directory)"),
        (("chats.jsonl", "chats.jsonl"), "chats.jsonl: given 2 times; give each file once"),
        (("chats.jsonl", "--format", "tau"), "no dialogue is left: kept 0 of 5 dialogues (5 without messages)"),
        (("chats.jsonl", "--pairs", "sdpo"), "the range of reward is not known; say with --at-least"),
        (("chats.jsonl", "--pairs", "eto", "--match", "state"), "--match is for --pairs sdpo"),
        (
            ("chats.jsonl", "--outcome", "score"),
            "no dialogue is left: kept 0 of 5 dialogues (4 without the outcome score",
        ),
        (("chats.jsonl", "--pairs", "eto", "--at-least", "2"), "no pair is left: kept 0 of 0 pairs"),
        (("chats.jsonl", "--tools", "chats.jsonl"), "chats.jsonl: cannot be read as tools"),
        (("chats.jsonl", "--tools", "none.json"), "none.json: expected a JSON list of tools, found none"),
        (
            ("chats.jsonl", "--pairs", "eto", "--at-least", "1", "--output", "x.json", "--pairs-output", "x.json"),
            "both outputs",
        ),
    ],
)
def test_what_users_get_wrong(run: Command, home: Path, chats: Path, arguments: tuple[str, ...], fault: str) -> None:
    (chats.parent / "none.json").write_text("[]")
    done = run("from_logs", *arguments)
    assert done.code == 2 and done.err.startswith("error: ") and fault in done.err, done.err
    assert done.err.count("\n") == 1 and not home.exists() and not (chats.parent / "x.json").exists()
