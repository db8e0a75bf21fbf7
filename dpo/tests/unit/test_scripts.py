"""What each script keeps of a dozen episodes written by hand (tiny_run), and what it says of wrong input."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import tiny_run
from recheck import check
from running import Command

from sotopia_sdpo.store import open_store


def read(home: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((home / name).read_text("utf-8"))


def sides(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return sorted((row["episode"], row["agent_position"]) for row in rows)


def test_sft_data_takes_both_sides(tiny: Path, inside: Command) -> None:
    done = inside("sft_data")
    assert done.code == 0 and done.out.startswith("kept 4 of 4 sides -> "), done.err
    rows = read(tiny, "sft_data.json")
    assert sides(rows) == [("S1", 0), ("S1", 1), ("S2", 0), ("S2", 1)]
    assert {row["conversations"][-1]["from"] for row in rows} == {"gpt"}
    good = inside("sft_data", "--min-goal", "8.5", "--output", "good.json")
    assert "kept 2 of 4 sides (2 with a goal score under 8.5) -> " in good.out
    assert sides(json.loads(Path("good.json").read_text())) == [("S1", 0), ("S2", 1)]
    few = [inside("sft_data", "--limit", "2", "--seed", str(seed)).out for seed in range(6)]
    assert all(line.startswith("kept 2 of 4 sides (2 over --limit)") for line in few)


def test_negatives_by_the_codes_thresholds_and_the_papers(tiny: Path, inside: Command) -> None:
    """N4 has failed, N6's second side never speaks, seven sides are good. Code: three of C0 to C3. Paper: no cap."""
    done = inside("data_filtering_negative")
    assert done.code == 0, done.err
    assert done.out.startswith("kept 8 of 19 sides (7 too good, 2 failed episode, 1 unusable: the agent never has")
    assert "1 over 3 of a scenario and role" in done.out
    rows = read(tiny, "negative_data.json")
    assert len([row for row in rows if row["episode"].startswith("C")]) == 3
    assert [row["episode"] for row in read(tiny, "negative_combos.json")] == [row["episode"] for row in rows]
    assert set(read(tiny, "negative_combos.json")[0]) == {"env_id", "agent_ids", "agent_position", "episode"}
    assert inside("data_filtering_negative", "--preset", "paper").code == 0
    found = [("C0", 0), ("C1", 0), ("C2", 0), ("C3", 0), ("N1", 0), ("N2", 1), ("N5", 0)]
    assert sides(read(tiny, "negative_data.json")) == found
    assert inside("data_filtering_negative", "--preset", "paper", "--max-goal", "2").code == 0
    assert {name for name, _ in sides(read(tiny, "negative_data.json"))} == {"C0", "C1", "C2", "C3", "N5"}


def test_runs_are_chosen_by_partner_and_tag(tiny: Path, inside: Command) -> None:
    assert inside("data_filtering_negative", "--partner-model", "gpt-4o").code == 0
    assert sides(read(tiny, "negative_data.json")) == [("N3", 1)]
    assert inside("data_filtering_negative", "--partner-model", "custom/anna@http://elsewhere:1/v1/").code == 0
    assert "N3" not in dict(sides(read(tiny, "negative_data.json")))
    tag = f"benchmark_{tiny_run.ANNA}_{tiny_run.ANNA}_judge_neg_trial2"
    assert inside("data_filtering_negative", "--tag", tag).code == 0
    assert sides(read(tiny, "negative_data.json")) == [("C2", 0)]


def test_pairs_and_their_check(located: Path, inside: Command, tmp_path: Path) -> None:
    """Of N1's five sessions H1 is best; H2 parts in the partner's turn; N3's session is not better."""
    done = inside("data_filtering_positive")
    assert done.code == 0, done.err
    assert "sessions: kept 6 of 8 sessions (1 that start from another negative, 1 failed episode)" in done.out
    assert "kept 2 of 3 negatives (1 with no better session) -> " in done.out
    rows = read(located, "preference_data.json")
    assert [row["episode"] for row in rows] == ["N1", "H1", "N2", "H6"]
    assert rows[1]["pair"] == "N1/0@3" and rows[1]["location_reason"] == "here" and rows[1]["goal_gain"] == 4
    assert read(located, "positive_data.json") == rows[1::2]
    eto = inside("data_filtering_positive", "--pairs", "eto")
    assert "kept 2 of 8 negatives" in eto.out and "6 without a new session" in eto.out
    assert "2 pairs (published: 1,019), mean gain in goal 2.00, in relationship 1.00" in done.out
    assert "2 pairs, mean gain in goal" in eto.out and "published" not in eto.out
    exported = tiny_run.write_episodes(tmp_path / "episodes.jsonl", tiny_run.episodes())
    assert check(located, exported, eto_any_difference=True) == []


@pytest.mark.parametrize(("length", "ends"), [("1", (4, 2)), ("3", (4, 4)), ("rest", (4, 6))])
def test_segments_of_a_fixed_length(tiny: Path, inside: Command, length: str, ends: tuple[int, int]) -> None:
    """The pair of H1 is over one turn after it parts at 3; that of H6 parts at 1 and has six messages."""
    pairs_with(list)(tiny)
    done = inside("auto_tail", "--length", length, "--output", "cut.json")
    assert done.code == 0 and "kept 2 of 2 pairs -> " in done.out, done.err
    rows = json.loads(Path("cut.json").read_text())
    assert [row["segment"] for row in rows] == [[3, ends[0]]] * 2 + [[1, ends[1]]] * 2
    assert [len(row["conversations"]) for row in rows] == [ends[0]] * 2 + [ends[1]] * 2
    assert not (tiny / "answers.db").exists()


# ---- files in the shape of the authors' scripts


def as_theirs(row: dict[str, Any]) -> dict[str, Any]:
    """Write a record as the authors' scripts do: an index on every turn, the role as idx, no episode, no scores."""
    turns = [{**turn, "index": index} for index, turn in enumerate(row["conversations"])]
    found = {"conversations": turns, "env": row["env"], "agents": row["agents"], "idx": row["agent_position"]}
    return found | ({"location": row["location"]} if "location" in row else {})


@pytest.fixture
def alone(located: Path) -> Path:
    """The folder with one session of each scenario, since others with the same dialogue would fit as well."""
    gone = {"N2", "C1", "C2", "C3"}
    with open_store(f"sqlite:///{located / 'sotopia.db'}") as store:
        store.delete_episodes(gone)
    for name in (NEGATIVES, LOCATED):
        edit(name, lambda rows: [row for row in rows if row["episode"] not in gone])(located)
    return located


def test_pairs_of_the_authors_shape_are_those_of_ours(alone: Path, inside: Command) -> None:
    located = alone
    assert inside("data_filtering_positive").code == 0
    ours = [{**row, "location_reason": ""} for row in read(located, "preference_data.json")]
    edit(LOCATED, lambda rows: list(map(as_theirs, rows)))(located)
    done = inside("data_filtering_positive")
    assert done.code == 0 and "kept 1 of 2 negatives" in done.out, done.err
    assert read(located, "preference_data.json") == ours
    quoted = '{"action_type": "speak", "argument": "He said: "no"."}'
    edit(LOCATED, lambda rows: [_with_turn(rows[0], 1, quoted), *rows[1:]])(located)
    assert inside("data_filtering_positive").code == 0
    assert read(located, "preference_data.json") == ours


def _with_turn(row: dict[str, Any], index: int, value: str) -> dict[str, Any]:
    turns = [*row["conversations"]]
    turns[index] = {**turns[index], "value": value}
    return {**row, "conversations": turns}


def test_locate_takes_the_authors_shape(alone: Path, inside: Command) -> None:
    """The questions are the same; a record that fits no session is refused."""
    located = alone
    ours = inside("locate", "--dry-run").out
    edit(NEGATIVES, lambda rows: list(map(as_theirs, rows)))(located)
    assert inside("locate", "--dry-run").out == ours != ""
    edit(NEGATIVES, having(env="e7"))(located)
    refused = inside("locate", "--dry-run")
    assert refused.code == 2 and "record 1: it names no episode, and sqlite:" in refused.err


# ---- wrong input: one line, exit code 2, nothing written


def edit(name: str, change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    """Change a step file as an editor, or a run that was cut short, would."""

    def apply(home: Path) -> None:
        rows = json.loads((home / name).read_text())
        (home / name).write_text(json.dumps(change(rows)))

    return apply


def pairs_with(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    """Write preference_data.json, changed."""

    def apply(home: Path) -> None:
        (home / "preference_data.json").write_text(json.dumps(change(tiny_run.files()["preference_data.json"])))

    return apply


def without(field: str) -> Callable[[list[Any]], Any]:
    return lambda rows: [*rows[:1], {name: value for name, value in rows[1].items() if name != field}, *rows[2:]]


def having(**values: Any) -> Callable[[list[Any]], Any]:
    return lambda rows: [*rows[:1], {**rows[1], **values}, *rows[2:]]


def nothing(_: Path) -> None:
    pass


NEGATIVES, LOCATED = "negative_data.json", "negative_data_error.json"
REMEDY = "; fix it or rerun "


def same_on_both_sides(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "conversations": rows[n - n % 2]["conversations"]} for n, row in enumerate(rows)]


WRONG: list[tuple[str, Callable[[Path], None], list[str], str]] = [
    (
        "sft_data",
        nothing,
        ["--models", "gpt-9"],
        "has no such episodes of task sft; it has custom/anna with custom/anna",
    ),
    ("sft_data", nothing, ["--min-goal", "11"], "no dialogue is left: kept 0 of 4 sides"),
    ("sft_data", nothing, ["--db", "sqlite:///none.db"], "there is no database here"),
    ("sft_data", nothing, ["--output", "/proc/none/x.json"], "/proc/none/x.json: cannot be written"),
    (
        "data_filtering_negative",
        nothing,
        ["--tag", "mine"],
        "--tag mine: .* has no episodes with this tag; it has bench",
    ),
    ("data_filtering_negative", nothing, ["--max-goal", "-1", "--max-relationship", "-6"], "no negative is left"),
    (
        "locate",
        lambda home: (home / NEGATIVES).unlink(),
        [],
        f"{NEGATIVES} is not there; data_filtering_negative.py wr",
    ),
    (
        "locate",
        lambda home: (home / NEGATIVES).write_text("[{"),
        [],
        "cannot be read as JSON .*; rerun data_filtering",
    ),
    (
        "locate",
        edit(NEGATIVES, lambda rows: []),
        [],
        "expected a list of records, found none; rerun data_filtering_neg",
    ),
    (
        "locate",
        edit(NEGATIVES, without("goal")),
        [],
        f"record 1: goal: Field required{REMEDY}data_filtering_negative.py",
    ),
    ("locate", edit(NEGATIVES, without("conversations")), [], f"record 1: conversations: Field required{REMEDY}"),
    ("locate", edit(NEGATIVES, having(agent_position=2)), [], f"record 1: agent_position: .*, found 2{REMEDY}"),
    ("locate", edit(NEGATIVES, lambda rows: [*rows, rows[0]]), [], f"record 8: .*/0 repeats record 0{REMEDY}"),
    ("locate", edit(NEGATIVES, lambda rows: [rows[0], 3]), [], f"record 1: expected an object, found '3'{REMEDY}"),
    ("locate", nothing, ["--model", "custom/teacher"], "custom/teacher: no address"),
    ("locate", nothing, ["--model", "custom/t@http://127.0.0.1:9/v1"], "no connection to http://127.0.0.1:9/v1"),
    (
        "locate",
        nothing,
        ["--model", "custom/t@http://127.0.0.1:9/v1", "--budget", "1"],
        "no price is known for custom/t",
    ),
    (
        "data_filtering_positive",
        lambda home: (home / LOCATED).unlink(),
        [],
        f"{LOCATED} is not there; locate.py writes it",
    ),
    (
        "data_filtering_positive",
        edit(LOCATED, having(location=99)),
        [],
        "record 1: .*location 99 is not in the dialogue",
    ),
    (
        "data_filtering_positive",
        edit(LOCATED, having(location=2)),
        [],
        "record 1: .*location 2 is a 'human' turn, expec",
    ),
    (
        "data_filtering_positive",
        edit(LOCATED, having(episode="X")),
        [],
        f"its episode X is not in .*{REMEDY}locate.py",
    ),
    ("data_filtering_positive", edit(LOCATED, having(goal=10)), [], "record 1: goal differs from its episode"),
    ("data_filtering_positive", edit(LOCATED, having(env="e7")), [], "record 1: env differs from its episode"),
    ("data_filtering_positive", nothing, ["--evaluator-model", "other"], "no such episodes of task hpos"),
    ("data_filtering_positive", edit(LOCATED, lambda rows: rows[2:]), [], "no pair is left: kept 0 of 1 negatives"),
    ("auto_tail", nothing, [], "preference_data.json is not there; data_filtering_positive.py writes it"),
    ("auto_tail", pairs_with(lambda rows: rows[:3]), [], "record 2: it has no positive after it"),
    ("auto_tail", pairs_with(lambda rows: rows[1:]), [], "record 0: side is 'positive', expected 'negative' here"),
    (
        "auto_tail",
        pairs_with(lambda rows: [rows[0], rows[3]]),
        [],
        "record 1: pair is 'N2/1@1', expected 'N1/0@3' here",
    ),
    ("auto_tail", pairs_with(without("pair")), [], "record 1: pair: Field required"),
    ("auto_tail", pairs_with(list), ["--fallback-length", "2"], "--fallback-length 2: expected an odd number"),
    ("auto_tail", pairs_with(list), ["--length", "all"], "--length all: expected an odd number"),
    ("auto_tail", pairs_with(list), ["--length", "3", "--dry-run"], "--length asks no model"),
    ("auto_tail", pairs_with(same_on_both_sides), ["--by", "replay"], r"no pair is left: .*\(2 with no difference\)"),
    ("auto_tail", pairs_with(same_on_both_sides), ["--model", "custom/m@http://h"], "none is left: kept 0 of 2 pairs"),
]


@pytest.mark.parametrize(("name", "spoil", "arguments", "fault"), WRONG)
def test_wrong_input_is_one_line(
    located: Path, inside: Command, name: str, spoil: Callable[[Path], None], arguments: list[str], fault: str
) -> None:
    spoil(located)
    before = {path: path.read_bytes() for path in located.glob("*.json")}
    found = inside(name, *arguments)
    assert found.code == 2, found
    lines = [line for line in found.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in found.err
    assert re.search(fault, lines[0]), lines[0]
    assert {path: path.read_bytes() for path in located.glob("*.json")} == before


@pytest.mark.parametrize("arguments", [["redis://:hun'ter22@h/0"], ["--concurrency", "redis://h/0?password=hunter22"]])
def test_a_usage_error_shows_no_password(inside: Command, arguments: list[str]) -> None:
    with pytest.raises(click.UsageError) as caught:
        inside("locate", *arguments)
    assert "redis://h/0" in caught.value.message and "ter22" not in caught.value.message
