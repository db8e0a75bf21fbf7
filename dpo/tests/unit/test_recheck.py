"""The checker is checked: a small run is in order, and a change of any value, turn or record of it is seen."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import recheck
import tiny_run
from recheck import check
from tiny_run import AUTO, COMBOS, ERR, ETO, NEG, POS, PREF, SFT, write, write_episodes


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_episodes(tmp_path / "episodes.jsonl", tiny_run.episodes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "steps", tiny_run.files())


def test_a_run_in_order_is_fine_and_its_counts_say_what_was_checked(folder: Path, export: Path):
    """Qualify: N1/0, N2/1, N3/1, N5/0, N5/1, C0 to C3/0 make 9; the cap leaves 8. Of N1, N2, N3 two have a better trial."""
    report = recheck.recheck(folder, export)
    assert report.violations == []
    assert report.counts == {
        "episodes.jsonl": "7 hpos, 9 neg, 3 pos, 2 sft scored",
        NEG: "8 of 9 sides that qualify in 2 runs",
        COMBOS: "8 for 8 negatives",
        ERR: "3 of 8 negatives",
        PREF: "2 pairs of 2 owed by 3 negatives",
        POS: "2 of 2 positives",
        AUTO: "2 pairs, 0 of 2 dropped",
        ETO: "1 pairs of 1 owed by 8 negatives",
        SFT: "4 of 4 sides",
        "dialogues compared turn by turn": "21",
    }


# ---- every value, every record


def broken(value: Any, key: Any) -> Iterator[Any]:
    """Break one value inside at a time, and leave out one entry at a time."""
    if isinstance(value, dict):
        for name in value:
            yield {k: v for k, v in value.items() if k != name}
            yield from ({**value, name: other} for other in broken(value[name], name))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value[:index] + value[index + 1 :]
            yield from (value[:index] + [other] + value[index + 1 :] for other in broken(value[index], index))
    elif isinstance(value, str):
        yield from broken_text(value, key)
    else:
        yield from (value + 1, value - 1, None)


def broken_text(text: str, key: Any) -> Iterator[str]:
    """Break a text where it tells something: our instructions and an annotator's reason are free."""
    yield ""
    if key == "value":
        yield from (
            text.replace(old, new) for old, new in [("Here it is", "It was"), ('t": "', 't": "x')] if old in text
        )
        yield text + "\n" + tiny_run.turn_of("speak", "More.")
    elif key != "reason":
        yield text + "x"


def rearranged(records: list[Any]) -> Iterator[list[Any]]:
    """Move records: one twice, two exchanged, all shifted."""
    for index in range(len(records)):
        yield records[: index + 1] + records[index:]
    yield records[1:] + records[:1]
    if len(records) > 1:
        yield [records[1], records[0], *records[2:]]
    if len(records) > 3:
        yield records[2:4] + records[:2] + records[4:]


@pytest.mark.parametrize("name", tiny_run.files())
def test_no_change_of_a_file_goes_unseen(name: str, folder: Path, export: Path):
    """The first four records, one of each kind among them; a record that is left out is among the named cases."""
    records = tiny_run.files()[name]
    tried = 0
    for index in range(min(4, len(records))):
        for changed in broken(records[index], None):
            write(folder, {name: [*records[:index], changed, *records[index + 1 :]]})
            assert check(folder, export), (index, changed)
            tried += 1
    assert tried > 25


@pytest.mark.parametrize("name", [PREF, POS, AUTO, ETO])
def test_no_record_of_a_pair_can_be_moved(name: str, folder: Path, export: Path):
    for changed in rearranged(tiny_run.files()[name]):
        if changed == tiny_run.files()[name] or (
            name == PREF and changed[0]["side"] == "negative" and len(changed) == 4
        ):
            continue  # the order of whole pairs is the script's
        write(folder, {name: changed})
        assert check(folder, export), changed


@pytest.mark.parametrize("name", [NEG, COMBOS, ERR, SFT])
def test_no_record_can_stand_there_twice(name: str, folder: Path, export: Path):
    records = tiny_run.files()[name]
    for index in range(len(records)):
        write(folder, {name: records + [records[index]]})
        assert check(folder, export), index


# ---- the other side: the episodes, the rules, what is there


def changed_episode(pk: str, **values: Any) -> list[dict[str, Any]]:
    return [e | values if e["pk"] == pk else e for e in tiny_run.episodes()]


HIGH = [[1.0, {"goal": 10.0, "relationship": 5.0}]] * 2
EPISODES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a better trial": (changed_episode("H0", rewards=HIGH), r"expected \(10.0, 5.0\)"),
    "a trial that became better": (changed_episode("H7", rewards=HIGH), "lacks the pair N3/1@3"),
    "a trial of another role": (changed_episode("H1", agent_position=1), "none of the 3 hpos trials"),
    "a trial without a score": (changed_episode("H1", status="unscored", rewards=[]), "no scored episode 'H1'"),
    "a trial of another task": (changed_episode("H1", settings={"task": "pos"}), "none of the 3 hpos trials"),
    "other words": (changed_episode("N1", messages=tiny_run.episodes()[4]["messages"]), "the episode says"),
    "no words": (changed_episode("C0", messages=[]), "cannot be read"),
    "an episode twice": (tiny_run.episodes() + tiny_run.episodes()[:1], "for the second time"),
    "one run more than a side": (changed_episode("C3", tag="other_trial0"), "is 2, expected 3"),
    "nothing scored": (changed_episode("N4")[3:4], "holds no scored episode"),
}


@pytest.mark.parametrize("case", EPISODES)
def test_other_episodes_are_seen(case: str, folder: Path, tmp_path: Path):
    episodes, message = EPISODES[case]
    violations = check(folder, write_episodes(tmp_path / "other.jsonl", episodes))
    assert any(re.search(message, line) for line in violations), violations


def test_a_replay_that_is_none_is_no_better_trial(folder: Path, tmp_path: Path):
    """H0 with the words of H3 differs from N1 before its located turn."""
    words = {e["pk"]: e["messages"] for e in tiny_run.episodes()}
    episodes = changed_episode("H0", rewards=HIGH, messages=words["H3"])
    assert check(folder, write_episodes(tmp_path / "other.jsonl", episodes)) == []


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"max_goal": 6.999, "max_relationship": None}, r"\(7.0, 3.0\) do not qualify"),
        ({"max_goal": 9}, "is 0, expected 1"),
        ({"cap": 2}, "is 3, expected 2"),
        ({"cap": 4}, "is 3, expected 4"),
        ({"sft_min_goal": 6}, "no side of an sft episode"),
        ({"eto_any_difference": True}, "lacks the pair N2/1"),
        ({"runs": ("nobody's",)}, "no scored episode of these runs"),
    ],
)
def test_other_rules_are_applied(rules: dict[str, Any], message: str, folder: Path, export: Path):
    violations = check(folder, export, **rules)
    assert any(re.search(message, line) for line in violations), violations


def test_sft_sides_at_the_bound_may_be_left_out(folder: Path, export: Path):
    """The goals are 9, 8, 5, 9 and the bound is 5: the third may stay or go, and the first may not go."""
    sides = tiny_run.files()[SFT]
    for kept, expected in ((sides, 0), (sides[:2] + sides[3:], 0), (sides[1:], 1)):
        write(folder, {SFT: kept})
        assert len(check(folder, export, sft_min_goal=5)) == expected


def test_dropped_pairs_are_counted(folder: Path, export: Path):
    write(folder, {AUTO: tiny_run.files()[AUTO][2:]})
    report = recheck.recheck(folder, export)
    assert (report.violations, report.counts[AUTO]) == ([], "1 pairs, 1 of 2 dropped")


@pytest.mark.parametrize(
    ("absent", "file"), [(NEG, COMBOS), (NEG, ERR), (ERR, PREF), (PREF, POS), (PREF, AUTO), (NEG, ETO)]
)
def test_what_cannot_be_compared_is_not_fine(absent: str, file: str, folder: Path, export: Path):
    (folder / absent).unlink()
    assert f"{file}: cannot be checked without {absent}" in check(folder, export)


def test_an_empty_folder_is_not_fine(tmp_path: Path, export: Path):
    (tmp_path / "empty").mkdir()
    assert [line.split(": ")[1] for line in check(tmp_path / "empty", export)] == ["none of the step files is here"]


def test_the_command_line(folder: Path, export: Path):
    command = [sys.executable, recheck.__file__, str(folder), str(export)]
    fine = subprocess.run(command, capture_output=True, text=True)
    assert (fine.returncode, fine.stderr, len(fine.stdout.splitlines())) == (0, "", 1)
    assert fine.stdout.startswith("0 violations; checked episodes.jsonl: 7 hpos")
    wrong = subprocess.run([*command, "--cap", "2"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr, len(wrong.stdout.splitlines())) == (1, "", 2)
    assert wrong.stdout.splitlines()[1].startswith("1 violations; checked")


def test_the_checker_imports_nothing_of_ours():
    code = "import sys, recheck; print([m for m in sys.modules if m.split('.')[0] in ('sotopia_sdpo', 'sotopia')])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(recheck.__file__).parent, capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"
