"""dpo/report.py as a command and its page: no text can do harm, one line for every mistake, a real browser.

Not covered here: how the page looks, which docs/report.png shows.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest
import tiny_run
from hypothesis import given
from hypothesis import strategies as st
from made_up import bare, gpt, human, pairs_of, records, write

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs import options
from sotopia_sdpo.report.data import report_of
from sotopia_sdpo.report.page import json_in_html, page_of
from sotopia_sdpo.report.reading import shown_pairs


SCRIPT = Path(__file__).resolve().parents[2] / "report.py"
PACKAGES = SCRIPT.parents[1] / "sotopia"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_S = 120
HARM = (
    '</script><script>document.title="harmed"</script><img src=x onerror="document.title=1"><!--<script>\u2028{{data}}'
)


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script as a module, started in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDPO_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("report_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(script, monkeypatch, capsys):
    """Call the command; gives the exit code and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            options.script(script.main)
        return ended.value.code, *capsys.readouterr()

    return run


class Elements(HTMLParser):
    """What stands in a page, as a browser left it."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts = [], Counter()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found:
            self.texts[self.found[-1][0], data.strip()] += 1

    def count(self, tag, **attributes):
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.found)

    def with_class(self, name):
        return sum(name in (found.get("class") or "").split() for _, found in self.found)


# ---- the page


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_in_a_page_cannot_end_its_element_and_is_the_same_value(value):
    text = json_in_html(value)
    assert "<" not in text and text.isascii() and json.loads(text) == value


def test_page_loads_nothing_and_runs_its_own_script_only():
    found = Elements(page_of(report_of(pairs_of(records(3))), "<b>.json"))
    assert not [a for _, a in found.found if {"src", "action"} & a.keys() or a.get("href", "#")[0] != "#"]
    assert found.count("script") == 2 and found.count("b") == 0
    policy = next(a["content"] for _, a in found.found if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert "url(" not in page_of({}, "") and "@import" not in page_of({}, "")


# ---- the command


def test_summary_is_the_one_line_and_the_page_is_beside_the_pairs(call, tmp_path):
    path = write(tmp_path / "preference_data_auto.json", records(12, scenarios=5))
    assert call(path) == (0, f"12 pairs of 5 scenarios -> {path.with_suffix('.html')}\n", "")
    assert path.with_suffix(".html").is_file() and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", [tiny_run.PREF, tiny_run.AUTO, tiny_run.ETO])
def test_what_the_steps_write_can_be_shown(call, tmp_path, name):
    found = tiny_run.files()[name]
    assert call(write(tmp_path / name, found))[0] == 0
    shown = report_of(shown_pairs(tmp_path / name, "a script"))["pairs"]
    assert [view["episodes"] for view in shown] == [
        [n["episode"], p["episode"]] for n, p in zip(found[::2], found[1::2], strict=True)
    ]


def test_one_pair_without_a_scenario(call, tmp_path):
    write(tmp_path / "x.json", [{"conversations": [human("a"), gpt(b)]} for b in "bc"])
    assert call("x.json", "--output", "y.html") == (0, "1 pair -> y.html\n", "")


def test_a_name_is_looked_for_in_the_data_folder_too(call, tmp_path):
    (tmp_path / "home").mkdir()
    path = write(tmp_path / "home" / "eto_data.json", records(2, "eto"))
    assert call("eto_data.json")[1] == f"2 pairs of 2 scenarios -> {path.with_suffix('.html')}\n"


def test_it_runs_as_a_script(tmp_path):
    path = write(tmp_path / "preference_data.json", records(2, "whole"))
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    done = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("2 pairs of 2 scenarios -> ")


def changed(number, **fields):
    """Return a change of one record of three pairs; None takes the field out."""

    def change(found):
        found[number] = {k: v for k, v in (found[number] | fields).items() if v is not None}
        return found

    return change


MISTAKES = [
    (lambda found: {"pairs": found}, ": expected a list of records, found a dict"),
    (lambda found: [], ": expected a list of records, found none"),
    (lambda found: bare(found)[:-1], "record 4: it has no positive after it"),
    (lambda found: found[1:], "record 0: side is 'positive', expected 'negative'"),
    (lambda found: [*found[:2], found[3], found[2], *found[4:]], "record 2: side is 'positive', expected 'negative'"),
    (lambda found: [*found[:3], *found[5:]], "record 3: pair is 'EPISODE00002/0@"),
    (changed(3, pair="other"), "record 3: pair is 'other', expected 'EPISODE00001/1@"),
    (changed(1, conversations=None), "record 1: conversations: Field required"),
    (changed(1, conversations=[]), "record 1: conversations: "),
    (lambda found: [*found[:4], "text", found[5]], "record 4: expected an object"),
    (changed(2, conversations=[{"from": "user", "value": "a"}]), "record 2: conversations: "),
    (changed(5, segment=[1, 99]), "record 5: segment [1, 99] is not in the dialogue"),
    (changed(5, segment=[2, 2]), "record 5: segment [2, 2] is not in the dialogue"),
    (changed(5, segment=[-1, 2]), "record 5: segment [-1, 2] is not in the dialogue"),
    (changed(5, segment="1-3"), "record 5: segment: "),
    (changed(0, location=99), "record 0: location 99 is not in the dialogue"),
    (changed(0, location=0), "record 0: location 0 is a 'human' turn, expected 'gpt'"),
    (changed(4, goal="much"), "record 4: goal"),
    (changed(4, goal=float("nan")), "record 4: goal: "),
    (changed(4, reason=["a"]), "record 4: reason: "),
    (changed(4, agent_position=2), "record 4: agent_position: "),
]

FOREIGN_MISTAKES = [
    ({"segment": [1, 99]}, "segment [1, 99] is not in the dialogue"),
    ({"segment": 3}, "segment: "),
    ({"location": 2}, "location 2 is a 'human' turn"),
    ({"location": True}, "location: "),
    ({"goal": "7"}, "goal: "),
    ({"relationship": float("inf")}, "relationship: "),
    ({"env": 3}, "env: "),
    ({"agents": "a, b"}, "agents: "),
]


@pytest.mark.parametrize(("fields", "expected"), FOREIGN_MISTAKES)
def test_what_others_wrote_beside_the_conversations_is_checked_too(call, tmp_path, fields, expected):
    found = bare(records(3, "whole"))
    found[4] |= fields
    code, out, err = call(write(tmp_path / "x.json", found))
    assert (code, out) == (2, "") and f"record 4: {expected}" in err and err.count("\n") == 1


@pytest.mark.parametrize(("change", "expected"), MISTAKES, ids=[text[:50] for _, text in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_is_written(call, tmp_path, change, expected):
    path = write(tmp_path / "preference_data_auto.json", change(records(3)))
    code, out, err = call(path)
    assert (code, out) == (2, "") and err.startswith(f"error: {path}") and expected in err
    assert err.count("\n") == 1 and "rerun auto_tail.py" in err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        ("preference_data_auto.json", "auto_tail.py"),
        ("preference_data.json", "data_filtering_positive.py"),
        ("eto_data.json", "data_filtering_positive.py --pairs eto"),
        ("another.json", "auto_tail.py"),
    ],
)
def test_a_missing_file_names_the_script_that_writes_it(call, name, writer):
    assert call(name) == (2, "", f"error: {name} is not there; {writer} writes it\n")


@pytest.mark.parametrize("text", ['[{"conversations": [', "", "[" * 100_000, "\udcff"])
def test_what_is_no_json_is_one_line(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="cannot be read as JSON") as raised:
        shown_pairs(path, "auto_tail.py")
    assert "\n" not in str(raised.value)


def test_the_page_never_replaces_the_pairs_or_a_folder(call, tmp_path):
    path = write(tmp_path / "x.json", records(1))
    before = path.read_bytes()
    assert "would replace the pairs" in call(path, "--output", path)[2]
    assert "found a folder" in call(path, "--output", tmp_path)[2]
    assert "expected a file of pairs, found a folder" in call(Path("."))[2]
    assert "cannot be written" in call(path, "--output", tmp_path / "none" / "x.html")[2]
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# ---- the browser


def dom_of(page, profile, **filters):
    """Open the page in a real browser, with these filters in its address, and read back what it made of it."""
    address = f"{page.as_uri()}#{urlencode(filters)}"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_S)
    assert done.returncode == 0, done.stderr
    return Elements(done.stdout)


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_in_a_real_browser(call, tmp_path):
    """Filters in the address show what the records say they should; a hostile dialogue stays text."""
    found = records(40, "uncut", scenarios=8)
    for record in found[:2]:
        record["conversations"][1] = gpt(HARM)
        record["conversations"][0]["value"] += HARM
        record |= {"reason": HARM, "location_reason": HARM}
    path = write(tmp_path / "pairs.json", found)
    page = path.with_suffix(".html")
    assert call(path)[0] == 0

    whole = dom_of(page, tmp_path / "profile")
    assert whole.texts["output", "40 of 40 pairs shown"] == 1
    assert whole.texts["title", "Preference pairs: pairs.json"] == 1
    assert whole.count("img") == 0 and whole.count("script") == 2
    assert whole.count("article") == 40 and whole.count("article", hidden="") == 0
    for name in ("in-segment", "is-located", "is-after", "negative", "positive"):
        assert whole.with_class(name), name
    assert whole.with_class("chart") == 4

    gains = [
        (p["goal"] - n["goal"], p["relationship"] - n["relationship"])
        for n, p in zip(found[::2], found[1::2], strict=True)
    ]
    expected = sum(goal >= 4 and relationship <= 2 for goal, relationship in gains)
    assert 0 < expected < 40
    by_gain = dom_of(page, tmp_path / "profile", goal_from=4, relationship_to=2)
    assert by_gain.texts["output", f"{expected} of 40 pairs shown"] == 1
    assert by_gain.count("article", hidden="") == 40 - expected
    by_scenario = dom_of(page, tmp_path / "profile", scenario="ENV0003", text=found[2 * 11]["pair"])
    assert by_scenario.texts["output", "1 of 40 pairs shown"] == 1


# ---- files of others


def one_pair(**both):
    """Write a pair in the published form, with fields on both records."""
    first = human("You are Ann.")
    return [{"conversations": [first, gpt("a"), human("b"), gpt(word)], **both} for word in ("c", "d")]


def shown(tmp_path, found):
    return shown_pairs(write(tmp_path / "pairs.json", found), "w.py")


def test_gains_of_the_authors_stand_where_scores_would(tmp_path):
    """They write the gain on both records, under the scores' names; sides of equal scores would be no pair."""
    found = one_pair(goal=2.0, relationship=-1.0)
    (view,) = report_of(shown(tmp_path, found))["pairs"]
    assert view["gains"] == {"goal": 2, "relationship": -1}
    assert view["scores"] == {"goal": [None, None], "relationship": [None, None]}
    scored = one_pair(goal=2.0, relationship=1.0)
    scored[1]["goal"] = 5.0
    views = report_of(shown(tmp_path, [*found, *scored]))["pairs"]
    assert [view["gains"]["goal"] for view in views] == [0, 3] and views[1]["scores"]["goal"] == [2, 5]


def test_a_segment_on_one_record_is_marked_on_both(tmp_path):
    """As training reads it: up to the end of the side that has none."""
    found = one_pair()
    found[1]["segment"] = [3, 4]
    assert [side.segment for side in shown(tmp_path, found)[0]] == [(3, 4), (3, 4)]
    found[0]["conversations"] += [human("e"), gpt("f")]
    assert [side.segment for side in shown(tmp_path, found)[0]] == [(3, 6), (3, 4)]
    assert [side.segment for side in shown(tmp_path, one_pair())[0]] == [None, None]


def test_pairs_of_ours_without_gains_are_shown_by_their_scores(call):
    """The shipped demo pairs name their sides and scores only."""
    shipped = SCRIPT.parents[1] / "LLaMA-Factory" / "data" / "demo_pairs.json"
    code, out, err = call(shipped, "--output", "page.html")
    assert code == 0 and out.startswith("240 pairs"), err
    first = report_of(shown_pairs(shipped, "w.py"))["pairs"][0]
    assert first["gains"] == {"goal": 3, "relationship": 2}
