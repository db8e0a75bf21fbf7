"""Records that strangers write: each is read rightly, or is a bad pair whose one line says what to do."""

import pytest
from dialogues import pair, ranking, record

from llamafactory_sdpo.data.pairing import Rules, make_pairs
from llamafactory_sdpo.data.reading import Format


ADJACENT = Format()
RANKING = Format(ranking=True, chosen="chosen", rejected="rejected")
STAGES = ("sdpo", "eto", "dmpo")


def one(records, form=ADJACENT, stage="sdpo"):
    (only,) = make_pairs(enumerate(records), form, Rules(stage), "data.json")
    return only


def error_of(records, form=ADJACENT, stage="sdpo"):
    error = one(records, form, stage).error
    assert error.startswith("data.json record") and error.isprintable()
    return error


# ---- what stands in the context of both sides ------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_history_that_holds_the_answer_is_refused(stage):
    """UltraFeedback's `messages` is the chosen dialogue; with whole dialogues beside it, turns alternate all the same."""
    whole = ["u0", "a0", "u1", "b1"]
    row = ranking([], ["u0", "a0", "u1", "a1"], whole)
    assert not one([row], RANKING, stage).error
    row["conversations"] = record(*whole)["conversations"]
    error = error_of([row], RANKING, stage)
    assert "'conversations' ends on an agent's turn" in error
    assert "if 'chosen' and 'rejected' are whole dialogues, make it an empty list" in error


def test_a_history_that_ends_on_a_call_is_refused_and_one_of_a_system_turn_is_none():
    row = ranking([], ["u0", "a"], ["u0", "b"])
    row["conversations"] = [{"from": "system", "value": "s"}]
    assert not one([row], RANKING).error
    row["conversations"] = [{"from": "human", "value": "u"}, {"from": "function_call", "value": "{}"}]
    assert "ends on an agent's turn" in error_of([row], RANKING)


# ---- ranking: true forgotten -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [["u0"], ["u0", "a0", "u1"], []])
def test_a_record_of_the_ranking_form_names_ranking(history):
    rows = [ranking(history, ["a"], ["b"]), ranking(history, ["c"], ["d"])]
    error = error_of(rows)
    assert 'the record has "chosen" and "rejected"' in error and '"ranking": true' in error
    assert "cut what follows" not in error
    assert "cut what follows it" in error_of([record("u0"), record("u0", "a")])


# ---- white space -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("space", [" ", "\n", "\t", "\u00a0", "\r\n", "\u3000", "\u200b", "\ufeff", " \u2060"])
def test_a_blank_behind_a_shared_turn_is_no_difference(stage, space):
    """It would make turn 1 the first that is scored; the sides part at turn 3."""
    rows = [record("u0", f"a0{space}", "u1", "a1"), record("u0", "a0", "u1", "b1")]
    assert "turn 1, the first that differs, differs in white space only" in error_of(rows, stage=stage)


def test_what_joins_emoji_and_letters_is_a_difference():
    """A zero-width joiner and non-joiner are seen: three people, or a family."""
    rows = [record("u0", "\U0001f468\u200d\U0001f469", "u1", "a"), record("u0", "\U0001f468\U0001f469", "u1", "b")]
    assert not one(rows).error and one(rows).first_turn == 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_blank_in_a_partners_or_the_system_turn_neither(stage):
    rows = [record("u0", "a0", "u 1", "a1", system="s"), record("u0", "a0", "u1", "b1", system="s")]
    assert "turn 3, the first that differs, differs in white space only" in error_of(rows, stage=stage)
    rows = [record("u0", "a", system="s"), record("u0", "b", system="s ")]
    assert "the system turn differs in white space only" in error_of(rows, stage=stage)


@pytest.mark.parametrize("stage", STAGES)
def test_turns_of_white_space_may_differ_in_it(stage):
    assert one([record("u0", " ", "u1", "a"), record("u0", "", "u1", "b")], stage=stage).first_turn == 0
    assert not one(pair(["u0"], ["a", "u", "x "], ["b", "u", "x"]), stage=stage).error


# ---- characters, tags and tools --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_half_of_a_character_is_named_wherever_it_stands(stage):
    rows = pair(["u0"], ["a"], ["b"], system="s")
    for place, name in ((0, "turn 0"), (1, "turn 1")):
        rows[1]["conversations"][place]["value"] = "x\ud83d"
        error = error_of(rows, stage=stage)
        assert f"the second (positive): {name} has half of a character, '\\ud83d' at position 1" in error
        rows[1]["conversations"][place]["value"] = rows[0]["conversations"][place]["value"]
    with_tools = Format(tools="tools", system="who")
    for extra in ({"tools": "\udc00"}, {"tools": [{"name": "\udc00"}]}, {"who": "\udc00"}):
        assert "has half of a character" in error_of(pair(["u0"], ["a"], ["b"], **extra), with_tools, stage)
    rows = pair(["u0"], ["a"], ["b"], **{"ke\ud83dy\x1b[31m": 1})
    rows[0].pop("conversations")
    assert "found ke\\ud83dy\\x1b[31m" in error_of(rows, stage=stage)


def test_a_role_of_no_tag_when_some_tags_are_left_out():
    form = Format(
        *(False, "conversations", None, None, None, None),
        user_tag="user", assistant_tag="assistant", observation_tag=None, function_tag=None, system_tag=None,
    )  # fmt: skip
    turns = [{"from": name, "value": name} for name in ("developer", "user", "assistant")]
    error = error_of([{"conversations": turns}] * 2, form)
    assert "turn 0 has 'from' 'developer', expected one of user, assistant" in error
    turns[0]["from"] = ["user"]
    assert "turn 0 has 'from' ['user'], expected one of user" in error_of([{"conversations": turns}] * 2, form)
    deep = []
    for _ in range(900):
        deep = [deep]
    turns[0]["from"] = deep
    assert "turn 0 has 'from' [[[[[[[...]]]]]]]" in error_of([{"conversations": turns}] * 2, form)
    assert "segment [[[[[[[...]]]]]]] is not" in error_of(pair(["u"], ["a"], ["b"], segment=deep))
    assert "segment [0, 1000000" in error_of(pair(["u"], ["a"], ["b"], segment=[0, 10**30]))


def test_a_list_of_tools_is_their_json():
    tools = [{"name": "look_up", "description": "é"}]
    made = one(pair(["u0"], ["a"], ["b"], tools=tools), Format(tools="tools"))
    assert (made.tools, made.calls) == ('[{"name": "look_up", "description": "é"}]', True)
    assert not one(pair(["u0"], ["a"], ["b"]), Format(tools="tools")).calls
