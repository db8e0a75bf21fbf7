"""What a comparison would do: its steps, the calls of models and the minutes, before anything is done.

Comes in: the steps, as they would be run. Goes out: a table, a line a kind of step. Nothing is made, served or called.
Invariant: an estimate says what it rests on. Seconds and calls of an episode are means over those of its kind that
were sampled in these run folders, else over all; seconds of a training are means over all trainings, of another step
over those of its kind. Episodes are counted where the kind was sampled before, else reckoned: combos x roles x trials,
and for sessions that start from negatives as if every side went badly; an episode takes as many calls then as it can:
a session MOST_CALLS, a quest one an action, the environment's own gold actions none. What a search by replay plays is
not reckoned.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from sotopia_sdpo.envs.registry import max_actions_of
from sotopia_sdpo.make.digests import Digests
from sotopia_sdpo.make.runner import Runner, after
from sotopia_sdpo.make.steps import Command, Step
from sotopia_sdpo.play.dialogue import MAX_TURNS
from sotopia_sdpo.world.cast import demo_splits
from sotopia_sdpo.world.combos import Splits, load_splits
from sotopia_sdpo.world.tasks import TASKS


MOST_CALLS = MAX_TURNS + 1
"""A turn each, and the judge."""
COMBOS_PER_SCENARIO = 5
"""Of the published world and of the demo's, where a task takes all."""
TRAININGS = ("sft", "sdpo", "train", "tune")
ANNOTATIONS = ("locate", "segments")
T = TypeVar("T")


class Planned(NamedTuple):
    """A step as it stands."""

    kind: str
    is_done: bool
    record: Mapping[str, Any]
    """What is written of the last time that it was done, in whatever way."""
    episodes: int
    """As reckoned; 0 where it samples none."""
    most_calls: int = 0
    """Of an episode."""
    is_search: bool = False
    """Whether it plays continuations, which are as many as what it finds makes it want."""
    at_once: int = 1
    """How many like it run at the same time."""


class Planner(Runner):
    """Stands in for a runner, and does nothing."""

    def __init__(self, run: Path, values: Mapping[str, str] | None = None, home: Path | None = None) -> None:
        super().__init__(run, values, home)
        self.digests = Digests(run / "done" / ".digests.json", is_kept=False)
        self.planned: list[Planned] = []
        self.unwritten: dict[Path, str] = {}
        self.at_once = 1
        self.seen: set[str] = set()

    def _prepare(self) -> None:
        """Make no folder."""

    @contextmanager
    def inside(self, folder: str) -> Iterator[Self]:
        """Give a planner that adds to what this one has planned."""
        inner = type(self)(self.run / folder, self.values, self.home)
        inner.planned = self.planned
        yield inner

    def write(self, path: Path, text: str) -> None:
        """Keep what would be written."""
        self.unwritten[path] = text

    @property
    def is_planning(self) -> bool:
        """Whether nothing is done."""
        return True

    def branches(self, branches: Sequence[Callable[[Self], T]], at_once: int = 1) -> list[T]:
        """Plan branches, one after the other; those within one that runs beside others do so as well."""
        before, self.at_once = self.at_once, max(self.at_once, min(at_once, len(branches)))
        try:
            return super().branches(branches)
        finally:
            self.at_once = before

    def step(self, step: Step) -> None:
        """Look whether a step is done; those that depend on one that is not are not done either."""
        key = self._key(step)
        self.keys[step.name] = key
        record = self._record(step)
        is_done = record.get("key") == key and self._has_output(step, record)
        # A model of tuning may be one of the comparison as well.
        if step.name not in self.seen:
            kind = step.name.partition(".")[0]
            is_search = any("replay" in words for words in step.words())
            reckoned = self._reckoned(step), most_calls(step)
            self.planned.append(Planned(kind, is_done, record, *reckoned, is_search, self.at_once))
        self.seen.add(step.name)
        self.chain = after(step, key, record) if is_done else "of a step that is not done"

    def _reckoned(self, step: Step) -> int:
        return sum(self._episodes(action.argv) for action in step.actions if isinstance(action, Command))

    def _episodes(self, argv: Sequence[str]) -> int:
        """Reckon the episodes of a command that samples."""
        given = _options(argv)
        if "--task" not in given:
            return 0
        task = TASKS[given["--task"]]
        trials = int(given.get("--trials", task.trials))
        if task.file:
            sides = next((one.episodes for one in self.planned if one.kind == "negatives"), 0)
            return sides * trials
        if "--env" in given:  # at most: an environment may have fewer quests of these kinds
            return int(given["--limit"])
        splits = self._splits(given.get("--splits"), "--demo" in argv)
        scenarios = len({env for name in task.splits for env in splits.get(name, ())})
        combos = int(given.get("--combos-per-env", task.combos_per_env or COMBOS_PER_SCENARIO))
        roles = 1 if given["--models"] == given["--partner-model"] else 2
        return min(scenarios * combos * roles * trials, int(given.get("--limit", 10**9)))

    def _splits(self, path: str | None, is_demo: bool) -> Splits:
        if path and Path(path) in self.unwritten:
            found: Splits = json.loads(self.unwritten[Path(path)])
            return found
        return demo_splits() if is_demo and not path else load_splits(path)


def most_calls(step: Step) -> int:
    """Return how many calls an episode of a step takes at most; 0 where it samples none."""
    sampled = (_options(action.argv) for action in step.actions if isinstance(action, Command))
    return max((_most_calls(given) for given in sampled if "--task" in given), default=0)


def _most_calls(given: Mapping[str, str]) -> int:
    if "--env" not in given:
        return MOST_CALLS
    if "--model" not in given:
        return 0
    return int(given["--max-actions"]) if "--max-actions" in given else max_actions_of(given["--env"])


def _options(argv: Sequence[str]) -> dict[str, str]:
    """Return the options of a command line with the words after them."""
    return {name: argv[place + 1] for place, name in enumerate(argv[:-1]) if name.startswith("--")}


class Line(NamedTuple):
    """What is left of a kind of step."""

    kind: str
    cells: int
    done: int
    episodes: int
    calls: float
    """NaN where nobody can tell before."""
    seconds: float
    """NaN where no step was timed that tells."""


def lines_of(planned: Sequence[Planned]) -> list[Line]:
    """Sum up the steps, a line a kind."""
    by_kind: dict[str, list[Planned]] = defaultdict(list)
    for one in planned:
        by_kind[one.kind].append(one)
    timed = [one for one in planned if "seconds" in one.record]
    # An annotator is asked once for every negative.
    asked = {kind: _mean(one.episodes for one in by_kind["negatives"]) for kind in ANNOTATIONS}
    return [_line(kind, found, timed, asked.get(kind, 0)) for kind, found in by_kind.items() if found]


def _line(kind: str, found: Sequence[Planned], timed: Sequence[Planned], asked: float) -> Line:
    left = [one for one in found if not one.is_done]
    alike = [one.record for one in timed if one.kind == kind or {one.kind, kind} <= set(TRAININGS)]
    played = [one for one in timed if one.record.get("episodes")]
    sampled = [one.record for one in played if one.kind == kind] or [one.record for one in played]
    counted = [record["episodes"] for record in alike if record.get("episodes")]
    is_sampling, at_once = any(one.episodes for one in found), max(one.at_once for one in found)
    each = _mean(counted) if counted and is_sampling else math.nan
    episodes = round(sum(one.episodes if math.isnan(each) else each for one in left)) if is_sampling else 0
    if is_sampling:
        seconds = episodes * _ratio(sampled, "seconds") / at_once
        calls = _ratio(sampled, "calls")
        return Line(
            kind,
            len(found),
            len(found) - len(left),
            episodes,
            round(episodes * (max(one.most_calls for one in found) if math.isnan(calls) else calls)),
            seconds if left else 0.0,
        )
    seconds = len(left) * _mean([record["seconds"] for record in alike]) / at_once if left else 0.0
    calls = math.nan if any(one.is_search for one in left) else round(asked * len(left))
    return Line(kind, len(found), len(found) - len(left), 0, calls, seconds)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else math.nan


def _ratio(records: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return a sum of records over their episodes."""
    episodes = sum(record["episodes"] for record in records)
    return sum(record[name] for record in records) / episodes if episodes else math.nan


def overview(planned: Sequence[Planned]) -> str:
    """Say in a line how many steps there are, and how long they take where all their kinds were timed here."""
    lines = lines_of(planned)
    left, seconds = sum(line.cells - line.done for line in lines), sum(line.seconds for line in lines)
    done = f", {len(planned) - left} of them done" if left < len(planned) else ""
    took = "" if math.isnan(seconds) or not left else f", about {seconds / 60:.0f} minutes by what was timed here"
    return f"{len(planned)} steps{done}{took}"


def table(planned: Sequence[Planned]) -> str:
    """Write the plan."""
    lines = lines_of(planned)
    known = [line.seconds for line in lines if not math.isnan(line.seconds)]
    calls = [line.calls for line in lines if not math.isnan(line.calls)]
    total = Line(
        "in all",
        sum(line.cells for line in lines),
        sum(line.done for line in lines),
        sum(line.episodes for line in lines),
        sum(calls),
        sum(known) if known else math.nan,
    )
    head = f"{'to do':12}{'cells':>7}{'done':>6}{'left':>6}{'episodes':>10}{'calls':>9}{'minutes':>9}"
    most = " or ".join(map(str, sorted({one.most_calls for one in planned if one.most_calls}) or [0]))
    told = [
        "episodes: as sampled here before, else combos x roles x trials (after negatives: as if every side were one)",
        f"calls: as episodes here took, else at most {most} an episode; minutes: by what was timed in this run folder",
    ]
    if len(known) < len(lines):
        told.append("a `?` is a step that was not timed here yet; the minutes in all leave it out")
    if len(calls) < len(lines):
        told.append("calls are without those with a `?`: a search by replay plays as many as it needs")
    return "\n".join([head, *map(_row, lines), _row(total), *told])


def _row(line: Line) -> str:
    minutes = "?" if math.isnan(line.seconds) else f"{line.seconds / 60:.1f}"
    calls = "?" if math.isnan(line.calls) else f"{line.calls:.0f}"
    left = line.cells - line.done
    return f"{line.kind:12}{line.cells:7}{line.done:6}{left:6}{line.episodes:10}{calls:>9}{minutes:>9}"
