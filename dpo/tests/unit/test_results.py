"""Arms side by side: means and paired gains that can be checked by hand, and what is refused."""

import json
import re
from pathlib import Path

import pytest
import tiny_run
from running import Command

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results.league import Arm, ArmRun
from sotopia_sdpo.results.score_files import FIELDS, read_tables, score_table
from sotopia_sdpo.results.scores import Score
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.documents import to_entry


GOALS = {"sft": {"e1": 2, "e2": 4, "e3": 6}, "sdpo": {"e1": 5, "e2": 6, "e3": 10}, "other": {"e9": 1}}
"""Of agent 0, by tag and scenario; agent 1 is the partner."""


@pytest.fixture
def arms(home: Path) -> Path:
    """A database with three runs."""
    episodes = [
        tiny_run.episode(
            f"{tag}-{env}", "all", env, [], [(goal, 1), (9, 3)], tag=tag, agent_position=0, models=["j", tag, "p"]
        )
        for tag, goals in GOALS.items()
        for env, goal in goals.items()
    ]
    with open_store(f"sqlite:///{home / 'sotopia.db'}") as store:
        store.put_entries(map(to_entry, episodes))
    return home


def test_means_and_paired_gains(arms: Path, inside: Command) -> None:
    """sft 4, sdpo 7; the gains 3, 2, 4 have mean 3 and standard error 1/sqrt(3), times t(0.975, 2) = 4.303: 2.48."""
    done = inside("results", "--arm", "sft=sft", "--arm", "sdpo=sdpo", "--output", "results.json")
    assert done.code == 0, done.err
    found = json.loads(Path("results.json").read_text())
    assert found["sft"]["goal"]["mean"] == 4 and found["sdpo"]["goal"]["mean"] == 7 and "gain" not in found["sft"]
    gain = found["sdpo"]["gain"]["goal"]
    assert gain["mean"] == 3 and gain["low"] == pytest.approx(3 - 2.484, abs=1e-3)
    assert found["sdpo"]["gain"]["relationship"]["mean"] == 0
    assert "+3.00  [0.52, 5.48]" in done.out and done.out.splitlines()[1].startswith("sft")


def test_tags_of_an_arm_are_pooled(arms: Path, inside: Command) -> None:
    assert inside("results", "--arm", "both=sft,sdpo", "--output", "results.json").code == 0
    found = json.loads(Path("results.json").read_text())["both"]
    assert found["goal_by_run"] == [4, 7]
    both = found["goal"]
    assert both["mean"] == 5.5 and both["episodes"] == 6 and both["scenarios"] == 3


def test_arms_of_as_many_tags_are_paired_by_place(arms: Path, inside: Command) -> None:
    """Also where the first arm has another number of them, or where one of its tags has no score."""
    found = inside("results", "--arm", "one=sft", "--arm", "a=sft,sdpo", "--arm", "b=sdpo,sft", "--output", "r.json")
    assert found.code == 0, found.err
    records = json.loads(Path("r.json").read_text())
    assert records["b"]["minus"]["a"]["goal"]["runs"] == 2 and records["b"]["gain"]["goal"]["runs"] == 1
    with open_store(f"sqlite:///{arms / 'sotopia.db'}") as store:
        failed = tiny_run.episode("f", "all", "e1", [], [], tag="failed", status="failed", failure="why", rewards=[])
        store.put_entries([to_entry(failed)])
    # The second tag of both, which is sdpo over sft; or one run each that have nothing to do with each other.
    for tags, mean in (("sft,sdpo", 3), ("sft", 0)):
        found = inside("results", "--arm", "a=failed,sft", "--arm", f"b={tags}", "--output", "r.json")
        assert found.code == 0, found.err
        gain = json.loads(Path("r.json").read_text())["b"]["gain"]["goal"]
        assert (gain["runs"], gain["mean"]) == (1, mean), tags


def test_scores_of_machines_are_put_together(arms: Path, inside: Command) -> None:
    """A table gives what its database gave; two of them hold twice as many runs."""
    two = ("--arm", "sft=sft", "--arm", "sdpo=sdpo")
    first = inside("results", *two, "--scores", "a.csv", "--output", "a.json")
    again = inside("results", "--from", "a.csv", "--scores", "b.csv", "--output", "b.json")
    assert (first.code, again.code, again.err) == (0, 0, "") and again.out == first.out
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()
    both = inside("results", "--from", "a.csv", "--from", "b.csv", "--output", "both.json")
    assert both.code == 0, both.err
    found = json.loads(Path("both.json").read_text())
    assert found["sft"]["goal_by_run"] == [4, 4] and found["sdpo"]["gain"]["goal"]["runs"] == 2


def test_tables_of_one_name_are_of_different_runs(tmp_path: Path) -> None:
    """compare.sh calls each of them scores.csv: two machines with two runs each have four, not two that are mixed."""
    score = Score("e", "e/0", 0, {"goal": 1.0}, False)
    paths = [tmp_path / place / "scores.csv" for place in ("one/run", "two/run", "other")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text(score_table([Arm("sft", [ArmRun("1/1", [score]), ArmRun("2/1", [score])])]), encoding="utf-8")
    (found,) = read_tables(paths)
    assert len({run.name for run in found.runs}) == 6
    with pytest.raises(UserError, match=r"one/run/scores.csv: given twice"):
        read_tables([paths[0], paths[1], tmp_path / "one" / ".." / "one" / "run" / "scores.csv"])


def test_a_table_keeps_trials_and_what_has_no_score(tmp_path: Path) -> None:
    quest = Score("e/1", "e/1", 0, {"score": 25.0, "solved": 0.0}, False, kind="e")
    other = quest._replace(values={"score": 1 / 3, "solved": 1.0}, is_simulated=True)
    arms = [Arm('a "b", c', [ArmRun("1/1", [quest, quest, other]), ArmRun("2/1", [other])], 3), Arm("d", [], 1)]
    path = tmp_path / "scores.csv"
    path.write_text(score_table(arms), encoding="utf-8")
    assert read_tables([path]) == arms[:1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no column arm"),
        ("arm,run,score\n", "no column episode"),
        ("HEAD", "it has no score"),
        ("HEADa,1,0,e,c,x,,0,0,goal,1\n", "line 2: expected numbers"),
        ("HEADa,1,0,e,c,0,,0,0,goal,\n", "line 2: expected numbers"),
        ("HEAD" + "x" * 200_000, "cannot be read"),
        ("HEADa,1,0,e\n", "line 2: expected numbers"),
        ('HEAD"a\nb",1,0,e,c,0,,0,0,goal,1\n', "line 3: expected an arm's name in one line, found a b"),
        (
            "HEADa,1,0,e,c,0,,0,0,goal,1\na,1,0,e,c,0,,0,0,goal,2\n",
            "line 3: this episode's goal has been given before",
        ),
    ],
)
def test_what_is_no_table_of_scores(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text.replace("HEAD", ",".join(FIELDS) + "\n"), encoding="utf-8")
    with pytest.raises(UserError, match=rf"x.csv: {fault}"):
        read_tables([path])
    with pytest.raises(UserError, match="none.csv: cannot be read"):
        read_tables([tmp_path / "none.csv"])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "expected arms of a database, --arm NAME=TAG, or tables of scores, --from FILE"),
        (["sft"], "--arm sft: expected NAME=TAG"),
        (["sft=sft", "sft=sdpo"], "--arm sft=sdpo: expected NAME=TAG.*with a name of its own"),
        (["a\nb=sft"], "--arm a b=sft: expected NAME=TAG.*in one line"),
        (["sft=none"], "--arm sft=none: .* has no scored episode of these tags"),
        (["both=sft,none"], "--arm both=sft,none: .* has no episode of tag none; see `sotopia db info`"),
        (["sft=sft", "x=other"], "--arm x=other: none of its episodes is on a combo of sft"),
    ],
)
def test_what_cannot_be_compared(arms: Path, inside: Command, arguments: list[str], fault: str) -> None:
    found = inside("results", *(word for text in arguments for word in ("--arm", text)))
    assert found.code == 2 and found.err.count("\n") == 1
    assert re.search(fault, found.err), found.err
