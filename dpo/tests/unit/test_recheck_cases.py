"""What a wrong script would write: several files alike, so that only the episodes tell, and the checker says what."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from recheck import check
from tiny_run import (
    AUTO,
    COMBOS,
    ERR,
    ETO,
    LONG,
    NEG,
    OTHER,
    POS,
    PREF,
    SFT,
    Files,
    cut,
    dialogue,
    pair,
    record,
    write,
    write_episodes,
)


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


def reworded(files: Files, side: str) -> None:
    """Give other instructions to one side of all pairs."""
    for found in files[PREF] + files[POS] + files[AUTO]:
        if found["side"] == side:
            found["conversations"][0] |= {"value": found["conversations"][0]["value"].replace("Act.", "Go.")}


def twice_under_the_cap(files: Files) -> None:
    """C0 stands in C1's place too."""
    for name in (NEG, COMBOS):
        files[name][6] = deepcopy(files[name][5])


def told(files: Files, names: tuple[str, ...], **values: Any) -> None:
    for name in names:
        for found in files[name]:
            found.update(values)


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
    "one twice under the cap": (twice_under_the_cap, r"\('C0', 0\) stands there 2 times"),
    "one under the cap": (lambda f: leave_out(f, 7), "is 2, expected 3"),
    "the second side lost": (lambda f: leave_out(f, 4), "is 0, expected 1"),
    "another role in a combo": (lambda f: f[COMBOS][0].update(agent_position=1), "lacks .*N1"),
    "a located negative lost": (lambda f: f[ERR].pop(0), "its negative N1/0@3 is none of"),
    "a combo lost": (lambda f: f[COMBOS].pop(), "lacks .*C3"),
    "a location everywhere wrong": (moved_location, "none of the 1 hpos trials"),
    "a location at the partner's": (lambda f: f[ERR][0].update(location=2), "location 2 is not a gpt turn"),
    "a located negative of its own": (lambda f: told(f, (ERR,), note="x"), "is not the record of negative_data.json"),
    "another reason": (lambda f: told(f, (PREF, POS, AUTO), location_reason="there"), "location, location_reason is"),
    "a negative in other words": (lambda f: reworded(f, "negative"), "negative's conversations is"),
    "a positive in other words": (lambda f: reworded(f, "positive"), "differ before the located turn"),
    "a cut pair of no pair": (lambda f: told(f, (AUTO,), pair="N3/1@3"), "N3/1@3 is none of preference_data"),
    "a segment without a reason": (lambda f: told(f, (AUTO,), reason=" "), "reason is ' '"),
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
def test_a_wrong_script_is_seen(case: str, tmp_path: Path):
    files = tiny_run.files()
    change, message = CASES[case]
    change(files)
    export = write_episodes(tmp_path / "episodes.jsonl", tiny_run.episodes())
    violations = check(write(tmp_path / "steps", files), export)
    assert any(re.search(message, line) for line in violations), violations
