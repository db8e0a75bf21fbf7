"""Records become pairs: what is accepted, what is scored, and what is refused with which words."""

import copy
import re

import pytest
from dialogues import histories, pair, ranking, record, segment_pairs, sessions
from hypothesis import given, settings
from hypothesis import strategies as st

from llamafactory_sdpo.data.pairing import Rules, make_pairs
from llamafactory_sdpo.data.reading import Format
from llamafactory_sdpo.errors import UserError


ADJACENT = Format()
RANKING = Format(ranking=True, chosen="chosen", rejected="rejected")
SDPO, ETO = Rules("sdpo"), Rules("eto")


def pairs_of(records, form=ADJACENT, rules=SDPO):
    return list(make_pairs(enumerate(records), form, rules, "data.json"))


def one(records, form=ADJACENT, rules=SDPO):
    (only,) = pairs_of(records, form, rules)
    assert not only.error, only.error
    return only


def texts(messages):
    return [message["content"] for message in messages]


# ---- what is scored -------------------------------------------------------------------------------------------------


def test_negative_first_becomes_rejected():
    made = one(pair(["u0"], ["worse", "u", "y"], ["better", "u", "z"]))
    assert texts(made.rejected) == ["u0", "worse", "u", "y"]
    assert texts(made.chosen) == ["u0", "better", "u", "z"]
    assert [message["role"] for message in made.chosen] == ["user", "assistant", "user", "assistant"]
    assert (made.first_turn, made.origin, made.unequal) == (0, "data.json records 0 and 1", False)


@pytest.mark.parametrize(
    ("system", "segment", "end"),
    [(None, None, 6), (None, [3, 4], 4), (None, [3, 6], 6), ("be kind", [4, 5], 4), ("be kind", None, 6)],
)
def test_the_segment_cuts_both_sides(system, segment, end):
    """The first differing agent turn is message 3, agent turn 1; a system message shifts the indices of `segment`."""
    extra = {} if segment is None else {"segment": segment}
    made = one(pair(["u0", "a0", "u1"], ["a1", "u2", "a2"], ["b1", "w2", "b2"], system=system, **extra))
    shift = 0 if system is None else 1
    assert len(made.chosen) == len(made.rejected) == end + shift
    assert made.first_turn == 1


def test_turn_scope_scores_the_first_differing_turn_alone():
    made = one(pair(["u0"], ["a", "u", "a2"], ["b", "u", "b2", "u", "b3"]), rules=Rules("sdpo", scope="turn"))
    assert texts(made.rejected) == ["u0", "a"]
    assert texts(made.chosen) == ["u0", "b"]


def test_both_forms_make_the_same_pair():
    history, rejected, chosen = ["u0", "a0", "u1"], ["a1", "u2", "a2"], ["b1", "w2", "b2"]
    adjacent = one(pair(history, rejected, chosen))
    ranked = one([ranking(history, rejected, chosen)], RANKING)
    assert ranked._replace(origin="") == adjacent._replace(origin="")
    assert ranked.origin == "data.json record 0"


def test_a_ranking_answer_may_be_one_turn_as_in_the_host():
    row = ranking(["u0"], ["a"], ["b"])
    row["chosen"], row["rejected"] = row["chosen"][0], row["rejected"][0]
    assert texts(one([row], RANKING).chosen) == ["u0", "b"]


def test_whole_sessions_in_the_ranking_form_have_an_empty_history():
    row = ranking([], ["u0", "a"], ["v0", "b", "v1", "b1"])
    made = one([row], RANKING, ETO)
    assert (texts(made.rejected), texts(made.chosen)) == (["u0", "a"], ["v0", "b", "v1", "b1"])


def test_shared_turns_at_the_beginning_of_the_answers_are_history():
    made = one([ranking(["u0"], ["same", "u1", "a"], ["same", "u1", "b"])], RANKING)
    assert made.first_turn == 1


def test_truncate_cuts_the_longer_side():
    rows = pair(["u0"], ["a", "u", "a2", "u", "a3"], ["b", "u", "b2"])
    made = one(rows, rules=Rules("sdpo", unequal="truncate"))
    assert (len(made.rejected), len(made.chosen), made.unequal) == (4, 4, False)
    warned = one(rows, rules=Rules("sdpo", unequal="warn"))
    assert (len(warned.rejected), len(warned.chosen), warned.unequal) == (6, 4, True)


def test_tags_columns_and_tools():
    form = Format(
        messages="talk", role_tag="role", content_tag="text", user_tag="them", assistant_tag="me", tools="functions"
    )
    rows = [
        {"talk": [{"role": "them", "text": "u"}, {"role": "me", "text": end}], "functions": "[]", "note": 1}
        for end in ("a", "b")
    ]
    made = one(rows, form)
    assert (texts(made.chosen), made.tools) == (["u", "b"], "[]")


def test_function_calls_and_observations_are_turns():
    rows = pair(["u0"], ["call", "result", "a"], ["call", "result", "b"])
    for row in rows:
        row["conversations"][1]["from"] = "function_call"
        row["conversations"][2]["from"] = "observation"
    made = one(rows)
    assert [message["role"] for message in made.chosen] == ["user", "function", "observation", "assistant"]
    assert made.first_turn == 1


@settings(deadline=None, max_examples=200)
@given(data=segment_pairs(), extra=st.dictionaries(st.sampled_from(["reason", "goal", "side"]), st.integers()))
def test_random_pairs_by_a_naive_rule(data, extra):
    history, rejected, chosen = data
    made = one(pair(history, rejected, chosen, **extra))
    differs = [index for index, (a, b) in enumerate(zip(rejected, chosen, strict=True)) if a != b][0]
    assert differs == 0
    assert made.first_turn == len(history) // 2
    assert texts(made.chosen) == history + chosen
    assert texts(made.rejected) == history + rejected


@settings(deadline=None, max_examples=100)
@given(data=sessions())
def test_sessions_are_taken_whole(data):
    rejected, chosen = data
    made = one([record(*rejected, segment=[99, 3]), record(*chosen)], rules=ETO)
    assert (texts(made.rejected), texts(made.chosen)) == (rejected, chosen)


@settings(deadline=None, max_examples=100)
@given(history=histories, data=sessions())
def test_shared_turns_of_sessions_by_a_naive_rule(history, data):
    """An agent turn is shared if the sides are the same up to it; a side that would keep none keeps all."""
    rejected, chosen = (history + side for side in data)
    counts = [len(side) // 2 for side in (rejected, chosen)]
    shared = sum(rejected[: 2 * turn] == chosen[: 2 * turn] for turn in range(1, min(counts) + 1))
    assert one(pair([], rejected, chosen), rules=ETO).first_turn == (0 if shared in counts else shared)


@pytest.mark.parametrize(
    ("rows", "first_turn"),
    [
        (pair(["u0", "a0", "u1"], ["a1"], ["b1", "u2", "b2"]), 1),
        (pair(["u0", "a0"], ["u1", "a1"], ["v1", "a1"]), 1),
        (pair([], ["u0", "a0"], ["v0", "a0"]), 0),
        (pair(["u0", "a0"], ["u1", "a1"], ["u1", "a1", "u2", "a2"]), 0),
        ([record("u0", "a0", "u1", "a1"), record("u0", "a0", "u1", "b1", system="s")], 0),
        (pair(["u0", "a0", "u1"], ["a1"], ["b1"], system="s"), 1),
    ],
    ids=[
        "agent's turn",
        "partner's turn",
        "first turn",
        "one continues the other",
        "system turn",
        "after a system turn",
    ],
)
def test_where_the_scoring_of_sessions_begins(rows, first_turn):
    for stage in ("eto", "dmpo"):
        assert one(rows, rules=Rules(stage)).first_turn == first_turn


# ---- what is refused ------------------------------------------------------------------------------------------------

GOOD = pair(["u0", "a0", "u1"], ["a1", "u2", "a2"], ["b1", "w2", "b2"])


def changed(change):
    """The good pair with one record changed in place."""
    rows = copy.deepcopy(GOOD)
    change(rows)
    return rows


def turns(rows, side=1):
    return rows[side]["conversations"]


BAD_FOR_ALL = {
    "never differs": (lambda r: r.__setitem__(1, copy.deepcopy(r[0])), "never differ"),
    "last turn of the partner": (
        lambda r: turns(r).append({"from": "human", "value": "x"}),
        "turn 6, the last, is not an",
    ),
    "order": (lambda r: turns(r).insert(2, {"from": "gpt", "value": "x"}), "turn 2 is a 'gpt' turn where a 'human'"),
    "late system": (lambda r: turns(r).insert(2, {"from": "system", "value": "x"}), "turn 2 is a 'system' turn"),
    "unknown from": (lambda r: turns(r)[3].update({"from": "user"}), "turn 3 has 'from' 'user', expected one of"),
    "missing from": (lambda r: turns(r)[3].pop("from"), "turn 3 has 'from' None"),
    "missing value": (lambda r: turns(r)[3].pop("value"), "turn 3 has nothing as 'value', expected text"),
    "number as value": (lambda r: turns(r)[3].update(value=3), "turn 3 has a number as 'value'"),
    "turn is text": (lambda r: turns(r).__setitem__(0, "hello"), "turn 0 is text, expected an object"),
    "empty list": (lambda r: turns(r).clear(), "no turns"),
    "only a system turn": (lambda r: turns(r).__setitem__(slice(None), [{"from": "system", "value": ""}]), "no turns"),
    "no list": (lambda r: r[1].update(conversations="hello"), "'conversations' is text, expected a list"),
    "no conversations": (lambda r: r[1].pop("conversations"), "has no 'conversations'"),
    "record is a list": (lambda r: r.__setitem__(1, []), "is a list, expected an object"),
}
BAD_FOR_SDPO = {
    "first human turns": (lambda r: turns(r)[0].update(value="other"), "first human turns differ"),
    "partner's difference": (lambda r: turns(r)[2].update(value="other"), "difference, turn 2, is the partner's"),
    "system turns": (lambda r: turns(r).insert(0, {"from": "system", "value": "x"}), "system turns differ"),
    "prefix": (lambda r: r.__setitem__(1, record("u0", "a0", "u1", "a1")), "dialogue is the beginning of the other"),
    "unequal": (lambda r: r.__setitem__(1, record("u0", "a0", "u1", "b1")), r"2 \(negative\) and 1 \(positive\)"),
    "segment outside": (lambda r: r[1].update(segment=[3, 8]), r"\[3, 8\] is outside the record, which has turns 0 to 5"),
    "segment negative": (lambda r: r[1].update(segment=[-1, 4]), "is outside the record"),
    "segment empty": (lambda r: r[1].update(segment=[3, 3]), "is outside the record"),
    "segment on the partner": (lambda r: r[1].update(segment=[3, 5]), "does not begin and end on an agent's turn"),
    "segment elsewhere": (lambda r: r[1].update(segment=[1, 4]), "starts at turn 1, but .* first differ at turn 3"),
    "segment late": (lambda r: r[1].update(segment=[5, 6]), "starts at turn 5, but .* first differ at turn 3"),
    "segment shape": (lambda r: r[1].update(segment=[3]), r"segment \[3\] is not \[start, end\]"),
    "segment type": (lambda r: r[1].update(segment=[3, True]), "is not .start, end."),
}  # fmt: skip


@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo"])
@pytest.mark.parametrize("name", BAD_FOR_ALL)
def test_refused_by_all_stages(name, stage):
    change, message = BAD_FOR_ALL[name]
    (bad,) = pairs_of(changed(change), rules=Rules(stage))
    check_line(bad.error, message)


@pytest.mark.parametrize("name", BAD_FOR_SDPO)
def test_refused_by_sdpo_and_normal_for_whole_sessions(name):
    change, message = BAD_FOR_SDPO[name]
    (bad,) = pairs_of(changed(change))
    check_line(bad.error, message)
    one(changed(change), rules=ETO)
    one(changed(change), rules=Rules("dmpo"))


def check_line(error, message):
    assert re.search(message, error), error
    assert error.startswith("data.json records 0 and 1: ")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("rows", "form", "message"),
    [
        (GOOD[:1], ADJACENT, "1 records, an odd number: record 0 has no partner"),
        (GOOD + GOOD[:1], ADJACENT, "3 records, an odd number: record 2 has no partner"),
        ([], ADJACENT, "holds no records"),
        ([], RANKING, "holds no records"),
    ],
)
def test_refused_as_a_whole(rows, form, message):
    with pytest.raises(UserError, match=message):
        pairs_of(rows, form)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("chosen"), "has no 'chosen'"),
        (lambda r: r.update(rejected="text"), "'rejected' is text, expected a turn or a list"),
        (lambda r: r.update(conversations="text"), "'conversations' is text, expected a list"),
        (lambda r: r["conversations"].pop(), "turn 2 is a 'gpt' turn where a 'human' turn belongs"),
    ],
)
def test_refused_in_the_ranking_form(change, message):
    row = ranking(["u0", "a0", "u1"], ["a1"], ["b1"])
    change(row)
    (bad,) = pairs_of([row], RANKING)
    assert message in bad.error
    assert bad.error.startswith("data.json record 0: ")


def test_a_wrong_pair_does_not_shift_the_next():
    rows = changed(lambda r: turns(r)[3].pop("value")) + GOOD
    bad, good = pairs_of(rows)
    assert bad.error and not good.error
    assert good.origin == "data.json records 2 and 3"
