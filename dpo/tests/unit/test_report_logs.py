"""dpo/report.py on pairs out of logs: every turn once, tools folded, outcomes by their own names; nothing does harm."""

import json
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_world import calls, pair, rests, talk
from made_up import pairs_of, records, write
from test_report import BROWSER, HARM, call, dom_of, script  # noqa: F401 (fixtures)

from sotopia_sdpo.report.data import report_of
from sotopia_sdpo.report.histograms import of_gains
from sotopia_sdpo.report.page import PAIRS, _part
from sotopia_sdpo.report.reading import shown_pairs
from sotopia_sdpo.report.turns import turn_of


def outcome(name: str, value: float, **ends: float) -> dict[str, Any]:
    return {"name": name, "value": value, **ends}


def with_outcomes(*both: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    """Make a pair with these outcomes of the negative and of the positive."""
    return [{**one, "outcomes": found} for one, found in zip(pair("sh", "g", "cog", **changes), both, strict=True)]


@given(st.sampled_from(["", "h", "sh", "hcooh", "sgh"]), rests(), rests())
def test_every_turn_is_shown_once_at_its_index(shared: str, worse: str, better: str) -> None:
    """The system turn is the background; every other one is a line of one of the sides, or of the shared history."""
    found = pair(shared, worse, better)
    view = report_of(pairs_of(found))["pairs"][0]
    start = int(shared.startswith("s"))
    assert view["background"] == ("0" if start else "") and len(view["shared"]) == len(shared) - start
    for side, record in enumerate(found):
        lines = [*view["shared"], *view["sides"][side]]
        assert [line.at for line in lines] == list(range(start, len(record["conversations"])))
        for line, turn in zip(lines, record["conversations"][start:], strict=True):
            if line.kind == "calls":
                assert json.loads(line.text) == {"says": "", "calls": json.loads(turn["value"])}
            else:
                assert line.text == turn["value"] and (line.kind == "result") == (turn["from"] == "observation")


def test_turns_of_tools_are_kinds_of_their_own() -> None:
    who, kind, text = turn_of(calls("find", says="Let me see.", item=3))
    assert (who, kind) == ("agent", "calls")
    assert json.loads(text) == {"says": "Let me see.", "calls": [{"name": "find", "arguments": {"item": 3}}]}
    assert turn_of({"from": "observation", "value": '{"a": 1}'}) == ("tool", "result", '{"a": 1}')
    assert turn_of({"from": "function_call", "value": "broken {"}) == ("agent", "text", "broken {")


def test_outcomes_have_their_own_names_means_and_gains() -> None:
    """Reward 0 to 1 and 0.5 to 1: means 0.25 and 1. Cost is known on one side of the second pair only."""
    found = with_outcomes([outcome("reward", 0)], [outcome("reward", 1)])
    more = with_outcomes([outcome("reward", 0.5), outcome("cost", 3)], [outcome("reward", 1)], pair="q", task="shop/2")
    report = report_of(pairs_of(found + more))
    assert report["outcomes"] == ["reward", "cost"] and report["means"] == {"reward": [0.25, 1], "cost": None}
    assert [view["gains"] for view in report["pairs"]] == [{"reward": 1, "cost": None}, {"reward": 0.5, "cost": None}]
    assert report["pairs"][1]["scores"] == {"reward": [0.5, 1], "cost": [3, None]}
    assert [one["title"] for one in report["histograms"]] == ["Gain in reward"]
    assert (report["place"], [one["key"] for one in report["scenarios"]]) == ("task", ["shop/1", "shop/2"])


def test_a_gain_may_be_all_that_is_known() -> None:
    (one,) = report_of(pairs_of(with_outcomes([], [], outcome_gains={"reward": 0.5})))["pairs"]
    assert one["gains"] == {}
    (one,) = report_of(pairs_of(with_outcomes([outcome("reward", 1)], [], outcome_gains={"reward": 0.5})))["pairs"]
    assert one["gains"] == {"reward": 0.5} and one["scores"] == {"reward": [1, None]}


def test_pairs_matched_by_state_are_counted() -> None:
    by_state = with_outcomes([outcome("r", 0)], [outcome("r", 1)], match="state", pair="q")
    report = report_of(pairs_of(pair("sh", "g", "g") + by_state))
    assert report["by_state"] == 1 and [view["match"] for view in report["pairs"]] == [None, "state"]


def test_segments_are_counted_in_the_agents_turns() -> None:
    """Messages 2 to 3 and 2 to 6 of the sides: one turn of the agent's, and two, with results between them."""
    found = pair("sh", "ghg", "coog")
    for record, end in zip(found, (5, 6), strict=True):
        record["segment"] = [2, end]
    report = report_of(pairs_of(found))
    assert report["pairs"][0]["agent_turns"] == [2, 2]
    assert report["histograms"][0]["title"] == "Segment length"
    assert [(bar["label"], bar["height"]) for bar in report["histograms"][0]["bars"]] == [("2", 1)]


def weighed() -> list[dict[str, Any]]:
    """Make a pair of whose turns some have a weight; the turn that both sides share has another on each."""
    worse, better = pair("shgh", "ghg", "ghg")
    for side, weights in ((worse, {2: 0, 4: 0.5}), (better, {4: 1, 6: 2.25})):
        for index, weight in weights.items():
            side["conversations"][index]["weight"] = weight
    return [worse, better]


def test_weights_other_than_1_are_shown_with_their_turns() -> None:
    """A turn that the sides share stays shared."""
    (view,) = report_of(pairs_of(weighed()))["pairs"]
    assert view["weights"] == [{2: 0, 4: 0.5}, {6: 2.25}] and [line.at for line in view["shared"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("gains", "bars"),
    [
        ([1.0, 1.0], [("+1", 2)]),
        ([0.25, 0.5, 0.5], [("+0.25 to +0.3", 1)]),
        ([0.1, 1.0], [("+0.1 to +0.2", 1), ("+1 to +1.1", 1)]),
        ([-20, 80], [("−20 to −10", 1), ("+80 to +90", 1)]),
        ([0.5, 0.5], [("+0.5 to +0.6", 2)]),
        ([0, 0], [("0", 2)]),
    ],
)
def test_gains_on_any_scale_have_bins_of_a_round_width(gains: list[float], bars: list[tuple[str, int]]) -> None:
    """The first and the last bar; heights add up."""
    found = of_gains("Gain", gains).bars
    assert (found[0].label, found[0].height) == bars[0] and sum(bar.height for bar in found) == len(gains)
    assert len(bars) == 1 or (found[-1].label, found[-1].height) == bars[-1]


@given(st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 3)), min_size=1))
def test_every_gain_is_in_one_bin(gains: list[float]) -> None:
    found = of_gains("Gain", gains).bars
    assert sum(bar.height for bar in found) == len(gains) and len(found) <= 12


def test_the_summary_names_tasks_and_outcomes(call, tmp_path) -> None:  # noqa: F811
    found = with_outcomes([outcome("a\x1b[31m\nb", 0)], [outcome("a\x1b[31m\nb", 1)], match="state")
    more = with_outcomes([outcome("long" * 30, 2)], [], pair="q", task="shop/2")
    code, out, err = call(write(tmp_path / "preference_data.json", found + more), "--output", "p.html")
    assert (code, err) == (0, "")
    first, *lines = out.splitlines()
    assert first == "2 pairs of 2 tasks, 1 matched by state -> p.html"
    assert lines[0] == "  a\\x1b[31m b: mean 0.00 -> 1.00, negative to positive"
    assert lines[1].endswith(": unknown on one side or both") and max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"match": "luck"}, "match: Input should be 'state', found 'luck'"),
        ({"outcome_gains": {"reward": "x"}}, "outcome_gains.reward: expected a number, found 'x'"),
        ({"outcomes": 3}, "outcomes: Input should be a valid list, found 3"),
        ({"segment": [0, 99]}, "segment [0, 99] is not in the dialogue of 3 turns"),
        ({"location": 0}, "location 0 is a 'system' turn, expected 'gpt'"),
    ],
)
def test_a_mistake_is_one_line(call, tmp_path, changes, fault) -> None:  # noqa: F811
    found = pair("sh", "g", "g")
    found[0] |= changes
    code, out, err = call(write(tmp_path / "preference_data.json", found))
    assert (code, out) == (2, "") and fault in err and err.count("\n") == 1


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_in_a_real_browser(call, tmp_path) -> None:  # noqa: F811
    """Calls and results are folded and whole inside; marks of direction and controls are written out."""
    hostile = f"\x1b[31m\u202e{HARM}"
    worse, better = [outcome(f"reward {hostile}", 0.5), outcome("cost", 1)], [outcome(f"reward {hostile}", 1)]
    found = with_outcomes(worse, better, match="state", outcome_gains={})
    found[1]["conversations"] = [
        *talk("sh"),
        calls(f"find{hostile}", "pay", says=hostile, text=hostile + "x" * 500),
        {"from": "observation", "value": hostile + "y" * 500},
        {"from": "observation", "value": ""},
        {"from": "gpt", "value": hostile},
    ]
    for record, end in zip(found, (3, 6), strict=True):
        record["segment"] = [2, end]
    found += [{**one, "pair": "q", "task": "shop/2"} for one in weighed()]
    path = write(tmp_path / "pairs.json", found)
    assert call(path)[0] == 0
    page = path.with_suffix(".html")
    whole = dom_of(page, tmp_path / "profile")
    assert whole.texts["title", "Preference pairs: pairs.json"] == 1
    assert whole.count("img") == 0 and whole.count("script") == 2
    assert whole.with_class("tool-fold") == 4 and whole.count("details", open="") == 1
    shown = "\n".join(text for tag, text in whole.texts if tag not in ("script", "style"))
    assert "\\u001b[31m\\u202e" in shown and "\u202e" not in shown and "\x1b" not in shown
    assert "y" * 500 in shown and "x" * 500 in shown
    assert whole.with_class("state") == 1 and "matched by state" in shown and "cost 1 → unknown" in shown
    assert "segment of 1 turn of the agent's" in shown and "segment of 2 turns of the agent's" in shown
    assert whole.count("fieldset") == 2 and "gives" in shown and "calls" in shown
    told = [text for tag, text in whole.texts.elements() if tag == "small" and text.startswith("weight ")]
    assert sorted(told) == ["weight 0", "weight 0.5", "weight 2.25"]
    by_gain = dom_of(page, tmp_path / "profile", reward_from=1)
    assert by_gain.texts["output", "1 of 2 pairs shown"] == 1
    by_task = dom_of(page, tmp_path / "profile", scenario="shop/1")
    assert by_task.texts["output", "1 of 2 pairs shown"] == 1


DOM = """
const made = (tag) => ({
  tag, nodeType: 1, children: [], style: { setProperty() {} }, setAttribute() {}, addEventListener() {},
  append(...added) { this.children.push(...added.map((one) => (one.tag ? one : String(one)))); },
});
const document = { getElementById: () => ({ textContent: DATA }), createElement: made };
const texts = (one) => (one.tag ? one.children.flatMap(texts) : [one]);
"""
"""What the page's scripts need of a browser to make the nodes of a pair; what is no node becomes text, as there."""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on the PATH")
def test_all_of_a_pair_is_shown_and_no_text_turns_the_direction() -> None:
    """Where it comes from, in pairs of words, among it; in every place that a dialogue's words may come to."""
    hostile = "\x1b\u202eline\r\nline"
    told = [{"from": "system", "value": f"Scenario: {hostile}"}, *talk("hg", hostile)]
    said = {"from": "gpt", "value": json.dumps({"action_type": "speak", "argument": hostile})}
    found = pair("", "", "", location_reason=hostile, location=2, agent_model=hostile)
    found = [{**one, "conversations": [*told, told[1], end]} for one, end in zip(found, (said, told[2]), strict=True)]
    report = {**report_of(pairs_of(found)), "file": "x", "words": PAIRS._asdict()}
    asked = "report.pairs.forEach((one, at) => { one.at = at; one.node = shellNode(one); render(one); });"
    shown = "console.log(JSON.stringify(report.pairs.flatMap((one) => texts(one.node))))"
    scripts = "".join(map(_part, ("head.js", "pair.js", "order.js")))
    program = f"const DATA = {json.dumps(json.dumps(report))};{DOM}{scripts}{asked}{shown}"
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, timeout=60)
    texts = json.loads(done.stdout or "[]")
    place = texts.index("Where it comes from")
    assert texts[place + 1 : place + 3] == ["pair", "run/1:run/2"] and not any("[object" in text for text in texts)
    assert not any(mark in text for text in texts for mark in "\x1b\u202e"), done.stderr
    assert sum("\\u001b\\u202eline\r\nline" in text for text in texts) >= 8


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on the PATH")
def test_an_outcome_may_be_called_like_an_order_of_the_page() -> None:
    """By the gain where an outcome's name stands behind the order, by the segment where the order stands alone."""
    view = {"segments": [[1, 4], [1, 4]], "gains": {"response-length": -7, "flags": 2}, "digest": "d"}
    orders = ["up response-length", "down response-length", "up flags", "up-length", "down-length", "up unknown"]
    known = f"const report = {{}}; const pair = {json.dumps(view)};"
    asked = f"console.log({json.dumps(orders)}.map((order) => rank(pair, order)).join())"
    program = f"{known}{_part('order.js')}{asked}"
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "-7,7,2,3,-3,Infinity\n", done.stderr


def test_pages_of_sotopia_have_scenarios_and_their_two_scores(tmp_path) -> None:
    report = report_of(shown_pairs(write(tmp_path / "p.json", records(3)), "w.py"))
    assert report["place"] == "scenario" and report["outcomes"] == ["goal", "relationship"] and report["by_state"] == 0
