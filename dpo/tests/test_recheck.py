"""The checker is checked: a small run is in order, and no change to it goes unseen.

One sweep breaks every value, turn and record of every file; the named cases break several files alike, as a wrong
script would, so that only the episodes tell.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import recheck
import tiny_run
from recheck import check
from tiny_run import LONG, OTHER, cut, dialogue, pair, record


NEG, COMBOS, ERR = "negative_data.json", "negative_combos.json", "negative_data_error.json"
PREF, POS, AUTO = "preference_data.json", "positive_data.json", "preference_data_auto.json"
ETO, SFT = "eto_data.json", "sft_data.json"
Files = dict[str, Any]


def write(folder: Path, files: Files) -> None:
    for name, records in files.items():
        text = records if isinstance(records, str) else json.dumps(records, ensure_ascii=False, indent=1)
        (folder / name).write_text(text, encoding="utf-8")


def write_episodes(path: Path, episodes: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in episodes), encoding="utf-8")
    return path


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_episodes(tmp_path / "episodes.jsonl", tiny_run.episodes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps").mkdir()
    write(tmp_path / "steps", tiny_run.files())
    return tmp_path / "steps"


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


# ---- several files alike, as a wrong script would write them


def everywhere(files: Files, episode: str, **values: Any) -> None:
    for name in (NEG, ERR, PREF, POS, AUTO, ETO):
        for found in files[name]:
            if found["episode"] == episode:
                found.update(deepcopy(values))


def with_pairs(files: Files, pairs: list, cuts: list) -> None:
    files.update({PREF: pairs, POS: deepcopy(pairs[1::2]), AUTO: cuts})


def other_trial(files: Files, positive: dict[str, Any], end: int = 4) -> None:
    """Take another trial for N1, right in all else."""
    n1 = record("N1", "e1", 0, LONG[:5], (5, 1))
    gains = {"goal_gain": positive["goal"] - 5, "relationship_gain": positive["relationship"] - 1}
    two = pair("N1/0@3", n1, positive, location=3, location_reason="here", **gains)
    with_pairs(files, two + files[PREF][2:], cut(two, 3, end) + files[AUTO][2:])


def add_negative(files: Files, *what: Any) -> None:
    made = record(*what)
    files[NEG].append(made)
    files[COMBOS].append({"env_id": made["env"], "agent_ids": made["agents"]})
    files[COMBOS][-1] |= {name: made[name] for name in ("agent_position", "episode")}


def leave_out(files: Files, index: int) -> None:
    for name in (NEG, COMBOS):
        del files[name][index]


def shifted_dialogues(files: Files) -> None:
    """Give each negative the dialogue of the next."""
    for name in (NEG, ERR):
        turns = [found["conversations"] for found in files[name]]
        for found, other in zip(files[name], turns[1:] + turns[:1], strict=True):
            found["conversations"] = other


def exchanged(files: Files) -> None:
    """Exchange the sides of the first pair, and relabel them."""
    for name in (PREF, AUTO):
        files[name][:2] = files[name][1], files[name][0]
        files[name][0]["side"], files[name][1]["side"] = "negative", "positive"
    files[POS][0] = deepcopy(files[PREF][1])


def moved_location(files: Files) -> None:
    everywhere(files, "N1", location=1)
    for name in (PREF, POS, AUTO):
        for found in files[name][: 1 if name == POS else 2]:
            found.update(location=1, pair="N1/0@1")


def not_better(files: Files) -> None:
    n3, h7 = record("N3", "e2", 1, LONG, (7, 3)), record("H7", "e2", 1, LONG[:3] + OTHER[:4], (7, 3))
    more = {"location": 3, "location_reason": "here", "goal_gain": 0.0, "relationship_gain": 0.0}
    two = pair("N3/1@3", n3, h7, **more)
    with_pairs(files, files[PREF] + two, files[AUTO] + cut(two, 3, 4))


def recut(files: Files, end: int, start: int = 1, shown: int | None = None) -> None:
    """Cut the second pair in another way; shown is where its dialogues end."""
    two = cut(files[PREF][2:], start, end)
    for side, whole in zip(two, files[PREF][2:], strict=True):
        side["conversations"] = whole["conversations"][: shown or end]
    files[AUTO][2:] = two


def eto_pair(files: Files) -> None:
    n2, p2 = record("N2", "e1", 1, LONG, (6, 0)), record("P2", "e1", 1, OTHER[:4], (10, 5))
    files[ETO] += pair("N2/1", n2, p2, goal_gain=4.0, relationship_gain=5.0)


H0 = record("H0", "e1", 0, LONG[:2] + OTHER, (8, 2))
H2 = record("H2", "e1", 0, LONG[:3] + OTHER[:4], (10, 5))
H3 = record("H3", "e1", 0, OTHER, (10, 5))
H5 = record("H5", "e1", 0, LONG[:5], (10, 5))
H6 = record("H6", "e1", 1, LONG[:1] + OTHER, (6, 2))

CASES: dict[str, tuple[Callable[[Files], Any], str]] = {
    "dialogues shifted by one": (shifted_dialogues, "the episode"),
    "the other role's dialogue": (lambda f: everywhere(f, "N1", conversations=dialogue(LONG, 1)), "background"),
    "a dialogue's last turn lost": (lambda f: everywhere(f, "N2", conversations=dialogue(LONG[:4], 1)), "4 turns"),
    "the partner's last turn kept": (lambda f: everywhere(f, "N1", conversations=dialogue(LONG, 0)), "7 turns"),
    "a wrong score": (lambda f: everywhere(f, "N1", goal=4.0), "goal, relationship is"),
    "the other role's score": (lambda f: everywhere(f, "N1", goal=9.0, relationship=3.0), "goal, relationship is"),
    "a wrong scenario": (lambda f: everywhere(f, "N1", env="e2"), "env is"),
    "the agents exchanged": (lambda f: everywhere(f, "N1", agents=["b", "a"]), "agents is"),
    "no negative": (lambda f: add_negative(f, "N1", "e1", 1, LONG, (9, 3)), "do not qualify"),
    "the partner's side": (lambda f: add_negative(f, "N3", "e2", 0, LONG[:5], (1, -5)), "another model's"),
    "a trial as a negative": (lambda f: add_negative(f, *("S2", "e9", 0, OTHER, (5, 3))), "of task sft"),
    "one over the cap": (lambda f: add_negative(f, "C2", "e4", 0, LONG[:5], (1, 2)), "is 4, expected 3"),
    "one under the cap": (lambda f: leave_out(f, 7), "is 2, expected 3"),
    "the second side lost": (lambda f: leave_out(f, 4), "is 0, expected 1"),
    "another role in a combo": (lambda f: f[COMBOS][0].update(agent_position=1), "lacks .*N1"),
    "a located negative lost": (lambda f: f[ERR].pop(0), "its negative N1/0@3 is none of"),
    "a combo lost": (lambda f: f[COMBOS].pop(), "lacks .*C3"),
    "a location everywhere wrong": (moved_location, "none of the 1 hpos trials"),
    "a location at the partner's": (lambda f: f[ERR][0].update(location=2), "location 2 is not a gpt turn"),
    "a location behind the end": (lambda f: f[ERR][0].update(location=7), "location 7 is not a gpt turn"),
    "a location from the end": (lambda f: f[ERR][0].update(location=-1), "location -1 is not a gpt turn"),
    "a pair lost": (lambda f: with_pairs(f, f[PREF][2:], f[AUTO][2:]), "lacks the pair N1/0@3"),
    "a pair doubled": (lambda f: with_pairs(f, f[PREF] + f[PREF][:2], f[AUTO]), "N1/0@3 stands there 2 times"),
    "pairs shifted": (lambda f: with_pairs(f, f[PREF][1:] + f[PREF][:1], f[AUTO]), "side is"),
    "half a pair": (lambda f: with_pairs(f, f[PREF][:3], f[AUTO]), "3 records are no whole pairs"),
    "half a cut pair": (lambda f: f[AUTO].pop(), "3 records are no whole pairs"),
    "sides exchanged": (exchanged, "its negative H1/0@3 is none of"),
    "the second best trial": (lambda f: other_trial(f, H0), r"is \(8.0, 2.0\), expected \(9.0, 1.0\)"),
    "a trial that differs at the partner": (lambda f: other_trial(f, H2), "no agent's turn that both have"),
    "a trial of another location": (lambda f: other_trial(f, H3), "none of the 4 hpos trials"),
    "a trial that is the same": (lambda f: other_trial(f, H5), "no agent's turn that both have"),
    "another negative's trial": (lambda f: other_trial(f, H6), "none of the 4 hpos trials"),
    "a pair without a gain": (not_better, "not better"),
    "a history of another": (lambda f: f[PREF][1]["conversations"].__setitem__(2, LONG[0]), "malformed"),
    "one message too many": (lambda f: recut(f, 4, shown=5), "not its whole dialogue up to turn 4"),
    "one message too few": (lambda f: recut(f, 4, shown=3), "not its whole dialogue up to turn 4"),
    "an even segment": (lambda f: recut(f, 5), "has no odd length"),
    "a segment behind an end": (lambda f: recut(f, 8), "segment's last turn 7 is not a gpt turn"),
    "an empty segment": (lambda f: recut(f, 1), "has no odd length"),
    "a segment that starts late": (lambda f: recut(f, 4, start=3), "segment's start"),
    "cut pairs in another order": (lambda f: f.update({AUTO: f[AUTO][2:] + f[AUTO][:2]}), "not in the order"),
    "a cut pair twice": (lambda f: f[AUTO].extend(f[AUTO][2:]), "2 times"),
    "positives in another order": (lambda f: f[POS].reverse(), "2 records for 2 positives"),
    "an eto pair lost": (lambda f: f[ETO].clear(), "lacks the pair N1/0"),
    "an eto pair that differs at the partner": (eto_pair, "no agent's turn that both have"),
    "an sft side lost": (lambda f: f[SFT].pop(0), r"lacks the side \('S1', 0\)"),
    "an sft dialogue of another task": (
        lambda f: f[SFT].append({"conversations": dialogue(LONG[:1] + OTHER[:4], 0)}),
        "no side of an sft episode",
    ),
    "no JSON": (lambda f: f.update({NEG: "[{"}), "is not a JSON list of objects"),
    "no list": (lambda f: f.update({NEG: "{}"}), "is not a JSON list of objects"),
    "JSON in another form": (lambda f: f.update({SFT: json.dumps(f[SFT])}), "indent=1"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_script_is_seen(case: str, folder: Path, export: Path):
    files = tiny_run.files()
    change, message = CASES[case]
    change(files)
    write(folder, files)
    violations = check(folder, export)
    assert any(re.search(message, line) for line in violations), violations


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
