"""The step files of a folder and the episodes they should come from, side by side, with a report to write into.

Comes in: a folder, an export of episodes, the rules the steps were asked for. Goes out: records and sides by name.
Invariant: what cannot be read is a violation, never left out in silence.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rederive import Record, Side, SideKey, run_of, task_of


MALFORMED = (KeyError, TypeError, IndexError, ValueError, AttributeError)

NEGATIVES, COMBOS, LOCATED = "negative_data.json", "negative_combos.json", "negative_data_error.json"
PAIRS, POSITIVES, CUT = "preference_data.json", "positive_data.json", "preference_data_auto.json"
ETO, SFT = "eto_data.json", "sft_data.json"


@dataclass(frozen=True)
class Rules:
    """What the steps were asked for."""

    max_goal: float = 7.0
    """A negative's goal is at most this; a strict bound is written a little lower (the paper's < 7: 6.999)."""
    max_relationship: float | None = 2.0
    """Or its relationship is at most this; None: only the goal counts."""
    cap: int = 3
    """Negatives of one scenario, role and run."""
    sft_min_goal: float | None = None
    """Sides below are not in sft_data.json, those above are, those at it may be."""
    eto_any_difference: bool = False
    """Allow eto pairs to differ first in a turn of the partner too."""
    runs: tuple[str, ...] = ()
    """Tags without their trial: no other episodes are looked at. Empty: all, and the negatives' own runs."""


@dataclass
class Report:
    """What came out: the violations, and how much was looked at."""

    violations: list[str] = field(default_factory=list)
    counts: dict[str, str] = field(default_factory=dict)


class Book:
    """One folder's files and the episodes they should come from."""

    def __init__(self, folder: Path, episodes_path: Path, rules: Rules, names: list[str]) -> None:
        self.rules, self.report = rules, Report()
        self.sides: dict[SideKey, Side] = {}
        self.compared = 0
        self.load_episodes(episodes_path)
        self.files = {name: self.load(folder / name) for name in names if (folder / name).exists()}
        if not self.files:
            self.say(str(folder), "none of the step files is here")

    def say(self, where: str, what: str) -> None:
        """Report a violation."""
        self.report.violations.append(f"{where}: {what}")

    def expect(self, where: str, what: str, found: Any, expected: Any) -> None:
        """Report a value that is not the expected one."""
        if found != expected:
            self.say(where, f"{what} is {found!r}, expected {expected!r}")

    def load_episodes(self, path: Path) -> None:
        """Read the scored episodes of the runs and derive both of their sides."""
        seen = set()
        for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
            episode = json.loads(line)
            if episode["status"] != "scored" or (self.rules.runs and run_of(episode) not in self.rules.runs):
                continue
            if episode["pk"] in seen:
                self.say(f"{path.name} line {number}", f"episode {episode['pk']} for the second time")
            seen.add(episode["pk"])
            try:
                self.sides |= {side.key: side for side in (Side(episode, 0), Side(episode, 1))}
            except MALFORMED as error:
                self.say(f"{path.name} line {number}", f"episode cannot be read: {error!r}")
        tasks = Counter(str(task_of(side.episode)) for side in self.sides.values() if side.position == 0)
        self.report.counts[path.name] = ", ".join(f"{n} {task}" for task, n in sorted(tasks.items())) + " scored"
        if not seen:
            self.say(path.name, "holds no scored episode" + " of these runs" * bool(self.rules.runs))

    def load(self, path: Path) -> list[Record]:
        """Read one step file."""
        text = path.read_text(encoding="utf-8")
        try:
            records = json.loads(text)
        except ValueError as error:
            records = error
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            self.say(path.name, f"is not a JSON list of objects: {records!r:.100}")
            return []
        if text.rstrip("\n") != json.dumps(records, ensure_ascii=False, indent=1):
            self.say(path.name, "is not written with ensure_ascii=False and indent=1")
        return records

    def side_of(self, where: str, record: Record) -> Side | None:
        """Find the side a record is of, and compare everything a record copies from its episode."""
        side = self.sides.get((record["episode"], record["agent_position"]))
        if side is None:
            self.say(where, f"no scored episode {record['episode']!r} with role {record['agent_position']!r}")
            return None
        self.compared += 1
        for fault in side.faults(record["conversations"]):
            self.say(where, fault)
        self.expect(where, "env", record["env"], side.episode["environment"])
        self.expect(where, "agents", record["agents"], side.episode["agents"])
        self.expect(where, "goal, relationship", (record["goal"], record["relationship"]), side.scores)
        return side

    def each_once(self, name: str, keys: list[Any]) -> None:
        """Report what stands more than once in a file."""
        for key, times in Counter(keys).items():
            if times > 1:
                self.say(name, f"{key} stands there {times} times")

    def gpt_turn(self, where: str, what: str, index: Any, conversations: list[Record]) -> None:
        """Report an index that is not of an agent's turn."""
        if type(index) is not int or not 0 <= index < len(conversations) or conversations[index]["from"] != "gpt":
            self.say(where, f"{what} {index!r} is not a gpt turn of its {len(conversations)} turns")

    def reason(self, where: str, reason: Any) -> None:
        """Report a reason that is no text."""
        if not isinstance(reason, str) or not reason.strip():
            self.say(where, f"reason is {reason!r}")


def side_key(record: Record) -> SideKey:
    """Name the side a record is of."""
    return record["episode"], record["agent_position"]


def pair_id(negative: Record) -> str:
    """Name the pair of a negative."""
    location = f"@{negative['location']}" if "location" in negative else ""
    return f"{negative['episode']}/{negative['agent_position']}{location}"
