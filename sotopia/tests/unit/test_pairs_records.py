"""Records of the step files: taken as they are, or refused by file, record and turn; pairs that cannot shift."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs_world import row, turns

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.outcomes import Outcome
from sotopia_sdpo.pairs.published import LOCATED_TURNS, SEGMENT_LENGTHS, bucket_of, shares_table
from sotopia_sdpo.pairs.records import (
    DialogueRecord,
    LocatedLog,
    LocatedSide,
    LoggedSide,
    PairedLog,
    PairedSide,
    PlayedSide,
    check_unique,
    read_pairs,
    read_records,
)
from sotopia_sdpo.pairs.tally import Tally, mean


def refused(tmp_path: Path, rows: list[Any], fault: str, model: Any = PlayedSide) -> None:
    """Make sure that a file is refused in these words, on one line."""
    path = tmp_path / "f.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError) as caught:
        read_pairs(path, "w.py") if model is None else read_records(path, model, "w.py")
    assert str(caught.value) == f"{path} record {fault}; fix it or rerun w.py"


def side(number: int, **changes: Any) -> dict[str, Any]:
    """Make record `number` of a good file of pairs."""
    facts = {"goal_gain": 1, "relationship_gain": 0, "pair": f"E{number // 2}/0@1", "location": 1}
    name = ("negative", "positive")[number % 2]
    return row("a", "b", "cd"[number % 2], **{"side": name, **facts, **changes})


EXTRA = st.dictionaries(
    st.text("xyz", min_size=1), st.none() | st.integers() | st.lists(st.none(), max_size=2) | st.just({"a": None})
)


@given(
    EXTRA,
    st.integers(0, 10) | st.sampled_from([0.5, 7.25]),
    st.booleans(),
    st.sampled_from([DialogueRecord, PlayedSide, LocatedSide]),
)
def test_a_record_is_written_as_it_was_read(
    extra: dict[str, Any], goal: float, system: bool, model: type[DialogueRecord]
) -> None:
    """Whatever else is in it, null or not; 7 stays 7."""
    data = row(goal=goal, conversations=turns("a", "b", "c", system=system), **extra)
    if model is LocatedSide:
        data |= {"location": 1 + system, "reason": "r"}
    dumped = model.model_validate(data).dump()
    assert json.dumps(dumped, sort_keys=True) == json.dumps(data, sort_keys=True)


def say(*speakers: str) -> list[dict[str, str]]:
    return [{"from": speaker, "value": "v"} for speaker in speakers]


@pytest.mark.parametrize(
    ("conversations", "fault"),
    [
        (say("gpt", "human"), "turn 0 is a 'gpt' turn, expected 'human'"),
        (say("human", "human"), "turn 1 is a 'human' turn, expected 'gpt'"),
        (say("system", "gpt"), "turn 1 is a 'gpt' turn, expected 'human'"),
        (say("human", "system", "gpt"), "turn 1 is a 'system' turn, expected 'gpt'"),
        (say("human", "gpt", "human"), "3 turns that do not end on one of the agent's, expected a 'gpt' turn"),
        (say("system", "human"), "2 turns that do not end on one of the agent's, expected a 'gpt' turn"),
        (say("system"), "1 turns that do not end on one of the agent's, expected a 'gpt' turn"),
        ([], "0 turns that do not end on one of the agent's, expected a 'gpt' turn"),
        ([{"from": "human"}], "turn 0 has the fields from, expected from, value"),
        ([{}], "turn 0 has the fields none, expected from, value"),
    ],
)  # fmt: skip
def test_a_dialogue_in_another_form(tmp_path: Path, conversations: Any, fault: str) -> None:
    refused(tmp_path, [row(), row(conversations=conversations)], f"1: conversations: {fault}")


@pytest.mark.parametrize(
    ("speakers", "fault"),
    [
        ("hg", None), ("g", None), ("sg", None), ("ghg", None), ("hcg", "turn 2 is a 'gpt' turn, expected 'human' or 'observation'"),
        ("hcog", None), ("hcoog", None), ("hcoohg", None), ("hchg", None), ("hcocog", None), ("hcoc", None), ("shcog", None), ("c", None),
        ("hgog", "turn 2 is a 'observation' turn, expected 'human'"),
        ("og", "turn 0 is a 'observation' turn, expected 'human' or 'gpt' or 'function_call'"),
        ("hog", "turn 1 is a 'observation' turn, expected 'gpt' or 'function_call'"),
        ("hcohog", "turn 4 is a 'observation' turn, expected 'gpt' or 'function_call'"),
        ("hcc", "turn 2 is a 'function_call' turn, expected 'human' or 'observation'"),
        ("hcshg", "turn 2 is a 'system' turn, expected 'human' or 'observation'"),
        ("hco", "3 turns that do not end on one of the agent's, expected a 'gpt' turn"),
    ],
)  # fmt: skip
def test_turns_of_tools(tmp_path: Path, speakers: str, fault: str | None) -> None:
    """Letters are the turns of system, human, gpt, function_call and observation; SOTOPIA's sides have no calls."""
    tags = {"s": "system", "h": "human", "g": "gpt", "c": "function_call", "o": "observation"}
    conversations = say(*(tags[letter] for letter in speakers))
    if fault is None:
        assert DialogueRecord(conversations=conversations).conversations == conversations
        assert LoggedSide(**logged(conversations=conversations)).conversations == conversations
    else:
        refused(tmp_path, [logged(conversations=conversations)], f"0: conversations: {fault}", LoggedSide)
    if "c" in speakers or "o" in speakers:
        with pytest.raises(ValueError, match="turn"):
            PlayedSide(**row(conversations=conversations))


def logged(**changes: Any) -> dict[str, Any]:
    """Make a record of a dialogue out of a log."""
    facts = {"episode": "t/1", "task": "shop/1", "trial": 0, "source": "made", "outcomes": [{"name": "r", "value": 1}]}
    return {"conversations": say("human", "gpt"), **facts, **changes}


WEIGHTED = [{"from": "human", "value": "v"}, {"from": "gpt", "value": "v", "weight": 0.5}]


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (LoggedSide, {}),
        (LoggedSide, {"tools": '[{"name": "é", "parameters": {"default": null}}]', "note": None, "agent_model": "m"}),
        (LoggedSide, {"conversations": WEIGHTED, "outcomes": [{"name": "r", "value": 0.5, "low": 0, "high": 1}]}),
        (LocatedLog, {"location": 1, "reason": "why"}),
        (PairedLog, {"side": "negative", "pair": "p", "match": "state", "outcome_gains": {"r": 1.0}, "segment": [1, 2]}),
    ],
)  # fmt: skip
def test_a_logged_record_is_written_as_it_was_read(model: type[LoggedSide], more: dict[str, Any]) -> None:
    data = logged(**more)
    assert json.dumps(model(**data).dump(), sort_keys=True) == json.dumps(data, sort_keys=True)


def test_tools_are_json_in_a_file_and_may_be_a_list() -> None:
    """Parameters of tools differ, which no column of a table can hold; the host reads them as text as well."""
    tools = [{"name": "find", "parameters": {"default": None}}]
    read = LoggedSide(**logged(tools=tools))
    assert read.tools == tools and json.loads(read.dump()["tools"]) == tools
    with pytest.raises(ValueError, match="expected a list of tools, or their JSON"):
        LoggedSide(**logged(tools="find("))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"outcomes": [{"name": "r", "value": "1"}]}, "outcomes.0.value: expected a number, found '1'"),
        ({"outcomes": [{"name": "r", "value": float("nan")}]}, "outcomes.0.value: expected a number, found 'nan'"),
        ({"outcomes": [{"name": "r", "value": 1}] * 2}, "outcomes: r comes twice"),
        ({"outcomes": [{"name": "r", "value": 3, "low": 0, "high": 1}]}, "outcomes: r is 3, expected 0 to 1"),
        ({"outcomes": [{"name": "r", "value": -1, "low": 0}]}, "outcomes: r is -1, expected at least 0"),
        ({"outcomes": [{"value": 3}]}, "outcomes.0.name: Field required"),
        ({"conversations": [WEIGHTED[0], {**WEIGHTED[1], "weight": -1}]}, "conversations.1.weight: Input should be greater than or equal to 0, found -1"),
        ({"task": 7}, "task: Input should be a valid string, found 7"),
    ],
)  # fmt: skip
def test_a_wrong_logged_record(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    refused(tmp_path, [logged(), logged(**changes)], f"1: {fault}", LoggedSide)


def test_scores_are_outcomes_by_their_dimensions() -> None:
    """Goal from 0 to 10 and relationship from -5 to 5, in the order of the comparison."""
    assert PlayedSide(**row()).outcomes == [Outcome("goal", 5, 0, 10), Outcome("relationship", 1, -5, 5)]


def test_pairs_out_of_logs(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    rows = [logged(side=name, pair="a", episode=name) for name in ("negative", "positive")]
    path.write_text(json.dumps(rows))
    (pair,) = read_pairs(path, "w.py")
    assert all(isinstance(one, PairedLog) for one in pair) and pair.positive.dump() == rows[1]
    del rows[1]["outcomes"]
    refused(tmp_path, rows, "1: outcomes: Field required", None)


@pytest.mark.parametrize(
    ("record", "fault", "model"),
    [
        (3, "expected an object, found '3'", PlayedSide),
        (row(agent_position=2), "agent_position: Input should be 0 or 1, found 2", PlayedSide),
        (row(agents=["p0"]), "agents.1: Field required", PlayedSide),
        (row(goal="7"), "goal: expected a number, found '7'", PlayedSide),
        (row(goal=True), "goal: expected a number, found 'True'", PlayedSide),
        (row(relationship=None), "relationship: expected a number, found 'None'", PlayedSide),
        (row(relationship=float("nan")), "relationship: expected a number, found 'nan'", PlayedSide),
        (row(relationship=float("inf")), "relationship: expected a number, found 'inf'", PlayedSide),
        ({"conversations": turns("a")}, "episode: Field required", PlayedSide),
        (row(conversations="x"), "conversations: Input should be a valid list, found 'x'", DialogueRecord),
        (row(conversations=[3]), "conversations.0: Input should be a valid dictionary, found 3", DialogueRecord),
        (row(conversations=[{"from": "human", "value": None}]), "conversations.0.value: Input should be a valid string, found None", DialogueRecord),
        (row(location=1), "reason: Field required", LocatedSide),
        (row(location=2, reason="r"), "location 2 is a 'human' turn, expected 'gpt'", LocatedSide),
        (row(location=-1, reason="r"), "location -1 is not in the dialogue of 4 turns", LocatedSide),
        (row(location=4, reason="r"), "location 4 is not in the dialogue of 4 turns", LocatedSide),
    ],
)  # fmt: skip
def test_a_wrong_field(tmp_path: Path, record: Any, fault: str, model: type[DialogueRecord]) -> None:
    refused(tmp_path, [row(location=1, reason="r"), record], f"1: {fault}", model)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([side(1), side(2), side(3)], "0: side is 'positive', expected 'negative' here"),
        ([side(0), side(2), side(3)], "1: side is 'negative', expected 'positive' here"),
        ([side(0), side(1), side(2)], "2: it has no positive after it, expected pairs of a negative and its positive"),
        ([side(0), side(3), side(2), side(1)], "1: pair is 'E1/0@1', expected 'E0/0@1' here"),
        ([side(0), side(1)] * 2, "2: E0/0@1 (negative) repeats record 0"),
        ([side(1), side(0)], "0: side is 'positive', expected 'negative' here"),
        ([side(0), row()], "1: side: Field required"),
        ([row(), side(1)], "0: side: Field required"),
        ([side(0, side="both"), side(1)], "0: side: Input should be 'negative' or 'positive', found 'both'"),
        ([side(0), side(1, location=0)], "1: location 0 is a 'human' turn, expected 'gpt'"),
        ([side(0), side(1, segment=[1, 5])], "1: segment [1, 5] is not in the dialogue of 4 turns"),
        ([side(0), side(1, segment=[3, 3])], "1: segment [3, 3] is not in the dialogue of 4 turns"),
        ([side(0), side(1, segment=[0, 2])], "1: segment [0, 2] is not in the dialogue of 4 turns"),
        ([row()], "0: it has no positive after it, expected pairs of a negative and its positive"),
    ],
)
def test_a_record_that_was_lost_or_moved_never_shifts_a_pair(tmp_path: Path, rows: list[Any], fault: str) -> None:
    refused(tmp_path, rows, fault, None)


@given(st.lists(st.integers(0, 7), unique=True))
def test_pairs_of_any_part_of_a_file_are_whole_or_refused(tmp_path_factory: Any, numbers: list[int]) -> None:
    """The oracle: what is read is a run of (2i, 2i+1)."""
    path = tmp_path_factory.getbasetemp() / "pairs.json"
    path.write_text(json.dumps([side(number) for number in numbers]))
    whole = bool(numbers) and len(numbers) % 2 == 0
    whole &= all(a % 2 == 0 and b == a + 1 for a, b in zip(numbers[::2], numbers[1::2], strict=False))
    if not whole:
        with pytest.raises(UserError):
            read_pairs(path, "w.py")
    else:
        pairs = read_pairs(path, "w.py")
        assert (
            [p.negative.pair for p in pairs]
            == [p.positive.pair for p in pairs]
            == [f"E{n // 2}/0@1" for n in numbers[::2]]
        )  # type: ignore[attr-defined]


def test_pairs_in_the_published_form(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps([{"conversations": turns(word), "note": None} for word in "abcd"]))
    pairs = read_pairs(path, "w.py")
    assert len(pairs) == 2 and pairs[1].positive.dump() == {"conversations": turns("d"), "note": None}
    assert not any(isinstance(record, PairedSide) for pair in pairs for record in pair)


def test_a_location_beyond_a_cut_side_is_fine() -> None:
    assert PairedSide.model_validate(side(0, location=9)).location == 9


def test_a_record_that_repeats_another() -> None:
    check_unique(Path("f"), ["a", "b"], "w.py")
    with pytest.raises(UserError, match=re.escape("f record 2: a repeats record 0; fix it or rerun w.py")):
        check_unique(Path("f"), ["a", "b", "a", "b"], "w.py")


def test_a_tally_adds_up() -> None:
    tally = Tally("sides")
    assert tally.line() == "kept 0 of 0 sides"
    tally.drop("never", 0)
    tally.drop("bad")
    tally.drop("worse", 3)
    tally.keep(2)
    assert tally.total == 6 and tally.line() == "kept 2 of 6 sides (3 worse, 1 bad)"
    assert tally.line([]) == "kept 2 of 6 sides (3 worse, 1 bad) -> nothing written"
    assert tally.line([Path("a"), Path("b")]).endswith(" -> a, b")
    assert (mean([]), mean([1, 2])) == ("-", "1.50")


@given(st.lists(st.integers(0, 40)), st.sampled_from([SEGMENT_LENGTHS, LOCATED_TURNS]))
def test_shares_are_those_of_all_values(values: list[int], published: Any) -> None:
    rows = [line.split() for line in shares_table(published, values).splitlines()[1:]]
    for line in rows:
        low, high = int(line[0]), 99 if "more" in line else int(line[0]) + 1
        low = 0 if low == 1 else low
        expected = sum(low <= value <= high for value in values)
        assert line[-2] == (f"{expected / len(values):.0%}" if values else "-")


@pytest.mark.parametrize(("value", "bucket"), [(0, 1), (1, 1), (2, 1), (3, 3), (6, 5), (7, 7), (99, 7)])
def test_the_largest_bucket_stands_for_all_above_it(value: int, bucket: int) -> None:
    assert bucket_of([1, 3, 5, 7], value) == bucket
