"""The scripts on dialogues out of logs: filters by an outcome, a rubric, lengths in the agent's turns, bad input."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from logs_world import TAGS, calls, logged, pair, talk
from running import Command, Server, serving


LOGS = Path(__file__).resolve().parents[4] / "shared" / "data" / "agents"


def write(path: Path, rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows), "utf-8")
    return path


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def with_rewards(*values: float | None) -> list[dict[str, Any]]:
    """Make dialogues with these rewards, and a rating of 3 where there is none."""
    rated = [{"name": "rating", "value": 3}]
    return [
        logged(episode=f"run/{number}", outcomes=rated if value is None else [{"name": "reward", "value": value}])
        for number, value in enumerate(values)
    ]


@pytest.fixture
def dialogues(home: Path) -> str:
    """The path of a file: rewards of 0, 0.5, 1 and 1, and a dialogue without one."""
    return str(write(home / "dialogues.json", with_rewards(0, 0.5, 1, 1, None)))


def rewards(path: Path) -> list[float]:
    return [row["outcomes"][0]["value"] for row in read(path)]


@pytest.mark.parametrize(
    ("script", "option", "bound", "kept", "left"),
    [
        ("data_filtering_negative", "--below", "1", [0, 0.5], "2 with reward not below 1"),
        ("data_filtering_negative", "--at-most", "1", [0, 0.5, 1, 1], ""),
        ("data_filtering_negative", "--at-most", "0.5", [0, 0.5], "2 with reward not at most 0.5"),
        ("data_filtering_negative", "--below", "0.5", [0], "3 with reward not below 0.5"),
        ("sft_data", "--at-least", "1", [1, 1], "2 with reward not at least 1"),
    ],
)
def test_filters_by_an_outcome(
    home: Path, inside: Command, dialogues: str, script: str, option: str, bound: str, kept: list[float], left: str
) -> None:
    done = inside(script, "--input", dialogues, "--outcome", "reward", option, bound)
    assert done.code == 0 and f"kept {len(kept)} of 5 dialogues (" in done.out, done.err
    assert "1 without reward" in done.out and left in done.out
    target = home / ("sft_data.json" if script == "sft_data" else "negative_data.json")
    assert rewards(target) == kept and not (home / "negative_combos.json").exists()
    assert read(target)[0] == next(row for row in read(Path(dialogues)) if row["outcomes"][0]["value"] == kept[0])


def test_a_sample_is_drawn_of_what_is_kept(home: Path, inside: Command, dialogues: str) -> None:
    done = inside("sft_data", "--input", dialogues, "--outcome", "reward", "--at-least", "0", "--limit", "2")
    assert "kept 2 of 5 dialogues (2 over --limit, 1 without reward)" in done.out
    assert f"1 tasks, mean reward {sum(rewards(home / 'sft_data.json')) / 2:.2f}" in done.out


def test_sotopias_sides_can_be_filtered_by_their_scores(tiny: Path, inside: Command) -> None:
    assert inside("data_filtering_negative").code == 0
    path = tiny / "negative_data.json"
    few = [row for row in read(path) if row["relationship"] < 1]
    done = inside("data_filtering_negative", "--input", str(path), "--outcome", "relationship", "--below", "1")
    assert done.code == 0 and few and read(path) == few, done.err


WRONG = [
    (
        ["--outcome", "speed", "--below", "1"],
        "no record has the outcome 'speed'; there are reward, rating (--outcome)",
    ),
    (["--below", "1"], "--input: expected --outcome NAME and --below NUMBER or --at-most NUMBER"),
    (["--outcome", "reward"], "--input: expected --outcome NAME and --below NUMBER or --at-most NUMBER"),
    (["--outcome", "reward", "--below", "1", "--at-most", "1"], "--input: expected --outcome NAME and"),
    (["--outcome", "reward", "--below", "1", "--max-goal", "0"], "--max-goal is for stored episodes"),
    (["--outcome", "reward", "--below", "1", "--preset", "paper"], "--preset is for stored episodes"),
    (["--outcome", "reward", "--below", "0"], "no negative is left: kept 0 of 5 dialogues"),
]


@pytest.mark.parametrize(("arguments", "fault"), WRONG)
def test_a_wrong_filter_is_one_line(
    home: Path, inside: Command, dialogues: str, arguments: list[str], fault: str
) -> None:
    found = inside("data_filtering_negative", "--input", dialogues, *arguments)
    assert found.code == 2 and fault in found.err and found.err.count("\n") == 1
    assert not (home / "negative_data.json").exists()


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (with_rewards(0) + with_rewards(1), "record 1: run/0 repeats record 0"),
        ([logged(outcomes=[{"name": "reward", "value": "x"}])], "record 0: outcomes.0.value: expected a number, found 'x'"),
        ([logged(outcomes=[{"name": "reward", "value": 2, "low": 0, "high": 1}])], "reward is 2, expected 0 to 1"),
        ([logged(talk("shog"))], "record 0: conversations: turn 2 is a 'observation' turn, expected 'gpt' or"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_one_line(home: Path, inside: Command, rows: list[Any], fault: str) -> None:
    path = write(home / "dialogues.json", rows)
    found = inside("data_filtering_negative", "--input", str(path), "--outcome", "reward", "--below", "1")
    assert found.code == 2 and fault in found.err and "rerun from_logs.py" in found.err and found.err.count("\n") == 1


def test_an_outcome_needs_a_file_or_an_environment(tiny: Path, inside: Command) -> None:
    """The stored episodes are SOTOPIA's."""
    found = inside("data_filtering_negative", "--outcome", "reward", "--below", "1")
    assert found.code == 2 and "name it with --input" in found.err


def test_logs_cannot_be_played_on(home: Path, inside: Command) -> None:
    write(home / "negative_data_error.json", [logged(location=2, reason="why")])
    found = inside("data_filtering_positive")
    assert found.code == 2 and "dialogues out of logs cannot be played on; from_logs.py --pairs" in found.err


@pytest.fixture(scope="module")
def annotator() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_locate_with_a_rubric(home: Path, inside: Command, annotator: Server) -> None:
    """Turn 2 is the agent's first; another rubric is another question."""
    rows = [logged(), logged(talk("ghg"), episode="run/2")]
    write(home / "negative_data.json", rows)
    rubric = write(home / "rubric.txt", "Good: it asks before it refunds.")
    arguments = ("--model", annotator.model("judge"), "--rubric", str(rubric))
    done = inside("locate", *arguments)
    assert done.code == 0 and "kept 2 of 2 negatives -> " in done.out and "located turn" not in done.out, done.err
    found = read(home / "negative_data_error.json")
    assert [row["location"] for row in found] == [2, 0] and all("simulation" in row["reason"] for row in found)

    assert [{k: v for k, v in row.items() if k not in ("location", "reason")} for row in found] == rows
    assert "0 of 2 questions to ask, 2 answered before" in inside("locate", *arguments, "--dry-run").out
    assert "2 of 2 questions to ask" in inside("locate", *arguments[:2], "--dry-run").out
    assert inside("locate", "--rubric", str(home)).code == 2


def test_segments_of_pairs_out_of_logs(home: Path, inside: Command, annotator: Server) -> None:
    """The better side has its second turn at 5, behind two results; the worse one at 3."""
    write(home / "preference_data.json", pair("h", "ghghg", "coohghg", match="state"))
    done = inside("auto_tail", "--model", annotator.model("judge"))
    assert done.code == 0 and "segment length: 2 to 2 turns of the agent's, 2.00 on average" in done.out, done.err
    worse, better = read(home / "preference_data_auto.json")
    assert (worse["segment"], better["segment"]) == ([1, 4], [1, 6]) and better["match"] == "state"
    assert (len(worse["conversations"]), len(better["conversations"])) == (4, 6)


@pytest.mark.parametrize(("length", "ends"), [("1", (2, 2)), ("2", (4, 6)), ("9", (6, 8)), ("rest", (6, 8))])
def test_fixed_lengths_are_turns_of_the_agents(
    home: Path, inside: Command, length: str, ends: tuple[int, int]
) -> None:
    write(home / "preference_data.json", pair("h", "ghghg", "coohghg"))
    done = inside("auto_tail", "--length", length)
    assert done.code == 0, done.err
    assert [row["segment"] for row in read(home / "preference_data_auto.json")] == [[1, end] for end in ends]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--length", "0"], "--length 0: expected a number of turns of the agent's"),
        (["--length", "all"], "--length all: expected a number of turns of the agent's"),
        (["--length", "2", "--rubric", "r.txt"], "r.txt: cannot be read as a rubric"),
    ],
)
def test_a_wrong_length_is_one_line(home: Path, inside: Command, arguments: list[str], fault: str) -> None:
    write(home / "preference_data.json", pair("h", "g", "g"))
    found = inside("auto_tail", *arguments)
    assert found.code == 2 and fault in found.err and not (home / "preference_data_auto.json").exists()


def turn_of(message: dict[str, Any]) -> dict[str, Any]:
    """Write a message of τ-bench as a turn."""
    if made := message.get("tool_calls"):
        one = made[0]["function"]
        return calls(one["name"], says=message["content"] or "", **json.loads(one["arguments"]))
    speakers = {"system": "s", "user": "h", "assistant": "g", "tool": "o"}
    return {"from": TAGS[speakers[message["role"]]], "value": message["content"] or ""}


@pytest.mark.skipif(not LOGS.is_dir(), reason="the published logs of agents are not beside this checkout")
def test_published_logs_go_through_the_steps(home: Path, inside: Command, annotator: Server) -> None:
    """τ-bench: 200 dialogues of one call a turn, 116 of them without the reward."""
    runs = read(LOGS / "tau_airline_gpt4o_200.json")
    rows = []
    for number, one in enumerate(runs):
        turns = [turn_of(message) for message in one["traj"]]
        last = max(index for index, turn in enumerate(turns) if turn["from"] in ("gpt", "function_call"))
        reward = {"name": "reward", "value": one["reward"], "low": 0, "high": 1}
        facts = {"episode": f"tau/{number}", "task": f"airline/{one['task_id']}", "trial": one["trial"]}
        rows.append(logged(turns[: last + 1], **facts, outcomes=[reward]))
    path = write(home / "dialogues.json", rows)
    done = inside("data_filtering_negative", "--input", str(path), "--outcome", "reward", "--below", "1")
    assert "kept 116 of 200 dialogues (84 with reward not below 1)" in done.out, done.err
    done = inside("locate", "--model", annotator.model("judge"))
    assert done.code == 0 and "kept 116 of 116 negatives" in done.out, done.err
