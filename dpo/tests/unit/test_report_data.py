"""What a page of dpo/report.py shows: every turn once, names and scenarios, gains, histograms."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import bare, gpt, human, pairs_of, records

from sotopia_sdpo.pairs.published import SEGMENT_LENGTHS
from sotopia_sdpo.report.data import report_of
from sotopia_sdpo.report.histograms import counted, of_gains
from sotopia_sdpo.report.turns import names_of, opening_of, scenario_of, turn_of


# ---- what is shown


def test_turns_are_read_as_what_was_said_and_done():
    assert turn_of(gpt('{"action_type": "speak", "argument": "Hi"}')) == ("agent", "speak", "Hi")
    assert turn_of(human('{"action_type": "leave", "argument": ""}')) == ("partner", "leave", "")
    assert turn_of(human('{"action_type": "non-verbal communication", "argument": "nods"}'))[1:] == (
        "non-verbal communication",
        "nods",
    )


@given(st.text())
def test_any_other_text_is_kept_as_it_is(text):
    who, kind, shown = turn_of(gpt(text))
    assert who == "agent" and (kind != "text" or shown == text)
    assert kind == "text" or "action_type" in text


@pytest.mark.parametrize("kind", ["calls", "result", "text"])
def test_an_action_that_is_called_like_a_kind_of_the_page_is_text(kind):
    """The page would take its words for the JSON of calls, and show no turn of the pair."""
    text = json.dumps({"action_type": kind, "argument": "x"})
    assert turn_of(gpt(text)) == ("agent", "text", text)
    told = f"Scenario: s\n\n{text}"
    assert opening_of([human(told), gpt("{}")], 1).first == ("partner", "text", text)


def test_calls_that_no_page_can_read_are_text():
    text = '[{"name": "f", "arguments": {"x": NaN}}]'
    assert turn_of({"from": "function_call", "value": text}) == ("agent", "text", text)


def test_deep_nesting_is_text():
    assert turn_of(gpt("[" * 100_000)).kind == "text"


def test_first_action_is_the_partners_where_the_agent_is_second():
    text = 'You are Ann Lee.\n{"action_type": "speak", "argument": "Hello"}'
    assert opening_of([human(text)], 1)[1:] == ("You are Ann Lee.", ("partner", "speak", "Hello"))
    assert opening_of([human(text)], None) == opening_of([human(text)], 1)
    assert opening_of([human(text)], 0)[1:] == (text, None)
    assert opening_of([{"from": "system", "value": "s"}, human("b")], 0)[:2] == (1, "b")


@pytest.mark.parametrize(
    ("background", "position", "expected"),
    [
        ("Participants: Ann Lee and Bo Ray\nYou are Bo Ray.", None, ("Bo Ray", "Ann Lee")),
        ("Participants: Ann Lee and Bo Ray\nImagine you are Ann Lee, your task …", 0, ("Ann Lee", "Bo Ray")),
        ("Participants: Ann Lee and Bo Ray", 1, ("Bo Ray", "Ann Lee")),
        ("Participants: Ann Lee and Bo Ray", None, ("", "")),
        ("Participants: 王 and 李\nyou are 李", None, ("李", "王")),
        ("You are Mona in a talk with Tilda.", 0, ("Mona", "")),
        ("You are Émile Roche, and you …", 0, ("Émile Roche", "")),
        ("you are in a shop", 0, ("", "")),
        ("", None, ("", "")),
    ],
)
def test_names(background, position, expected):
    assert names_of(background, position) == expected


def test_scenario_is_a_line_of_the_background():
    assert scenario_of("Here it is:\n  Scenario: Two meet. \nParticipants: A and B") == "Two meet."
    assert scenario_of("No such line; Scenario: not here") == ""


def test_scenarios_of_one_text_are_told_apart_by_their_ids():
    found = records(2)
    for record in found[2:]:
        record["conversations"] = found[0]["conversations"]
    shown = report_of(pairs_of(found))
    assert [s["key"] for s in shown["scenarios"]] == ["ENV0000", "ENV0001"]
    assert shown["scenarios"][0]["text"] == shown["scenarios"][1]["text"]
    assert shown["scenarios"][1]["label"].endswith("(ENV0001)")


def test_env_stands_for_a_scenario_without_text():
    conversations = [human("You are Ann."), gpt("a")]
    found = [{"conversations": conversations, "env": "e7"}, {"conversations": conversations, "env": "e7"}]
    assert report_of(pairs_of(found))["scenarios"] == [{"key": "e7", "text": "e7", "label": "e7"}]
    assert report_of(pairs_of(bare(found)))["scenarios"] == []


@pytest.mark.parametrize("step", ["auto", "uncut", "whole", "eto"])
@pytest.mark.parametrize("strip", [False, True])
def test_every_turn_is_shown_once_at_its_index(step, strip):
    """The oracle counts from the records alone: every index but the background's, and the partner's first action."""
    found = records(40, step)
    given = bare(found) if strip else found
    for i, view in enumerate(report_of(pairs_of(given))["pairs"]):
        for side in (0, 1):
            conversations = found[2 * i + side]["conversations"]
            first = [0] if found[2 * i]["agent_position"] == 1 else []
            lines = [*view["shared"], *view["sides"][side]]
            assert [line.at for line in lines] == first + list(range(1, len(conversations)))
            spoken = json.loads(conversations[-1]["value"])
            assert lines[-1][2:] == (spoken["action_type"], spoken["argument"])


def test_shared_history_ends_where_the_sides_part_and_never_inside_a_segment():
    found = records(60, "uncut")
    for i, view in enumerate(report_of(pairs_of(found))["pairs"]):
        sides = [record["conversations"] for record in found[2 * i : 2 * i + 2]]
        parted = next(k for k, (a, b) in enumerate(zip(*sides, strict=False)) if a != b)
        assert [side[0].at for side in view["sides"]] == [parted, parted]
        assert view["segments"][0][0] == parted
    found[0]["segment"] = [1, 4]
    assert report_of(pairs_of(found))["pairs"][0]["sides"][0][0].at == 1


def test_partners_that_begin_differently_are_both_shown():
    def opens(words):
        return [human(f'You are Ann.\n{{"action_type": "speak", "argument": "{words}"}}'), gpt("a")]

    view = report_of(pairs_of([{"conversations": opens("Hi")}, {"conversations": opens("Ho")}]))["pairs"][0]
    assert view["background"] == "You are Ann." and view["shared"] == []
    assert [side[0].text for side in view["sides"]] == ["Hi", "Ho"]


def test_backgrounds_that_differ_are_both_shown():
    view = report_of(pairs_of([{"conversations": [human(t), gpt("a")]} for t in ("one", "two")]))["pairs"][0]
    assert view["background"] == "" and [side[0].text for side in view["sides"]] == ["one", "two"]


def test_gain_is_the_difference_of_the_scores_or_what_the_file_says():
    found = records(1)
    found[0] |= {"goal": 3.0, "relationship": None, "relationship_gain": -2.0}
    found[1] |= {"goal": 7.5}
    assert report_of(pairs_of(found))["pairs"][0]["gains"] == {"goal": 4.5, "relationship": -2.0}
    assert report_of(pairs_of(bare(found)))["pairs"][0]["gains"] == {"goal": None, "relationship": None}


# ---- histograms


def test_counts_stand_in_the_published_bins():
    found = counted("t", "", [1, 3, 3, 4, 7, 9], SEGMENT_LENGTHS)
    assert found.bars == [("1", 1, 0.04), ("3", 2, 0.89), ("4", 1, None), ("5", 0, 0.06), ("≥ 7", 2, 0.01)]


def test_gains_have_open_ends_and_no_gap():
    found = of_gains("t", [-8, 0, 1, 1.0, 9])
    assert [bar.label for bar in found.bars] == "≤ −3|−2|−1|0|+1|+2|+3|+4|+5|+6|≥ +7".split("|")
    assert [bar.height for bar in found.bars] == [1, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1]
    assert not found.note and of_gains("t", [0.5]).note


@given(st.lists(st.floats(-10, 10)))
def test_no_gain_is_lost(gains):
    assert sum(bar.height for bar in of_gains("t", gains).bars) == len(gains)


def test_histograms_count_what_the_records_say():
    found = records(120)
    shown = {
        h["title"]: {b["label"]: b["height"] for b in h["bars"]} for h in report_of(pairs_of(found))["histograms"]
    }
    lengths = Counter(r["segment"][1] - r["segment"][0] for r in found[1::2])
    locations = Counter(r["location"] for r in found[::2])
    for title, counts in (("Segment length", lengths), ("Located turn", locations)):
        assert shown[title] == {"1": counts[1], "3": counts[3], "5": counts[5], "≥ 7": counts[7]}
    assert sum(shown["Gain in goal"].values()) == sum(shown["Gain in relationship"].values()) == 120


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("whole", ["Located turn", "Gain in goal", "Gain in relationship"]),
        ("eto", ["Gain in goal", "Gain in relationship"]),
    ],
)
def test_histograms_are_of_what_the_file_has(step, expected):
    assert [h["title"] for h in report_of(pairs_of(records(30, step)))["histograms"]] == expected


def test_a_bare_file_of_cut_pairs_has_the_same_counts_under_another_title():
    """Cut pairs begin to differ at the located turn and end with the segment in what made_up.py makes."""
    found = records(80)
    given, inferred = (report_of(pairs_of(some))["histograms"] for some in (found, bare(found)))
    assert [h["title"] for h in inferred] == ["Length of what differs", "First differing turn"]
    assert [h["bars"] for h in inferred] == [h["bars"] for h in given[:2]]
    assert report_of(pairs_of(bare(records(30, "whole"))))["histograms"] == []
