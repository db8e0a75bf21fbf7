"""Read what judges gave to sessions, from a database, an export, or a file of scores.

Comes in: files and tags. Goes out: judgements, and the length and the agents of the sessions. A file of scores is one
JSON object, `{"EPISODE": {"agent1": {"goal": 7, …}, "agent2": {…}}, …}`, whose judge is called after the file;
anything else is what `sotopia db import` reads, where an episode names its judge.
Invariant: a panel's episode is a judgement of the panel and of each of its judges.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.dimensions import BY_NAME
from sotopia_sdpo.judge.panel import judgements_in
from sotopia_sdpo.llm.spec import without_address
from sotopia_sdpo.results.people import Facts, Side
from sotopia_sdpo.results.sessions import Sessions, facts_of
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.reading import read_source
from sotopia_sdpo.store.run_names import tags_meant


SCORES_FILE = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{')
"""How an object of objects begins; an episode begins with a text."""
LOOKED_AT = 4096
AGENTS = re.compile(r"agent_?([12])")
UNKNOWN = "unknown"
FORM = '{"EPISODE": {"agent1": {"goal": 7}, "agent2": {"goal": 5}}}'


class Given(NamedTuple):
    """What a judge gave to one side, once."""

    judge: str
    side: Side
    values: dict[str, float]


class Judged:
    """All judgements of some files and tags."""

    def __init__(self, sessions: Sessions) -> None:
        """Start with none."""
        self.sessions = sessions
        self.given: list[Given] = []
        self.facts: dict[str, Facts] = {}

    def read_files(self, typed: Sequence[str]) -> None:
        """Read files, each perhaps as NAME=FILE.

        Raises:
            UserError: if one is not there, or holds no scores.
        """
        files = [_named(text) for text in typed]
        with_episodes = [(name, path) for name, path in files if not _is_scores_file(path)]
        for _, path in with_episodes:
            for episode in _episodes(path):
                self.sessions.learn(episode)
        for name, path in files:
            before = len(self.given)
            if (name, path) in with_episodes:
                for episode in _episodes(path):
                    self._add_episode(episode, name)
            else:
                self.given += _scores(path, name or path.stem)
            if len(self.given) == before:
                raise UserError(f"{path}: no scores; expected scored episodes (`sotopia db export`), or {FORM}")

    def read_tags(self, store: Store, tags: Sequence[str]) -> None:
        """Read the scored episodes of some runs.

        Raises:
            UserError: if a run has none.
        """
        self.sessions.learn_from(store)
        for tag in tags_meant(tags, store.counts().episodes, store.url):
            before = len(self.given)
            for episode in store.episodes(tag, "scored"):
                self._add_episode(episode)
            if len(self.given) == before:
                raise UserError(f"{store.url}: no scored episode with tag {tag}; `sotopia runs` shows the runs")

    def by_side(self, judge: str, dimension: str) -> dict[Side, list[float]]:
        """Return all that a judge gave on a dimension, by side."""
        found: dict[Side, list[float]] = defaultdict(list)
        for one in self.given:
            if one.judge == judge and dimension in one.values:
                found[one.side].append(one.values[dimension])
        return found

    def _add_episode(self, episode: Episode, judge: str = "") -> None:
        session = self.sessions.name_of(episode)
        self.facts[session] = facts_of(episode)
        known = without_address(episode.models[0]) if len(episode.models) == 3 else UNKNOWN
        verdicts = [reward[1] for reward in episode.rewards if not isinstance(reward, float)]
        self._add(judge or known, session, verdicts)
        for one in judgements_in(episode.settings):
            self._add(without_address(one.judge), session, one.scores)

    def _add(self, judge: str, session: str, by_agent: Sequence[dict[str, float]]) -> None:
        for position, scores in enumerate(by_agent):
            values = {dimension: scores[dimension] for dimension in BY_NAME if dimension in scores}
            self.given.append(Given(judge, Side(session, position), values))


def _named(text: str) -> tuple[str, Path]:
    """Read NAME=FILE, or FILE alone."""
    name, mark, path = text.partition("=")
    return (name, Path(path)) if mark and not Path(text).exists() else ("", Path(text))


def _episodes(path: Path) -> Iterator[Episode]:
    """Read the scored episodes of a file."""
    for entry in read_source(str(path), Counter()):
        if entry[0] == "episodes" and entry[1].status == "scored":
            yield entry[1]


def _is_scores_file(path: Path) -> bool:
    """Return whether a file is an object of scores by episode."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return bool(SCORES_FILE.match(file.read(LOOKED_AT)))
    except OSError as err:
        raise UserError(f"{path}: {err.strerror or err}; expected a file of a judge's scores") from err


def _scores(path: Path, judge: str) -> Iterator[Given]:
    """Read a file of scores by episode.

    Raises:
        UserError: if it is not in this form.
    """
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as err:
        raise UserError(f"{path}: cannot be read as JSON ({err}); expected {FORM}") from err
    for session, by_agent in found.items():
        if not isinstance(by_agent, dict):
            raise UserError(f"{path} episode {session}: expected an object as in {FORM}")
        for key, scores in by_agent.items():
            if agent := AGENTS.fullmatch(key):
                values = _checked(f"{path} episode {session}, {key}", scores)
                yield Given(judge, Side(session, int(agent[1]) - 1), values)


def _checked(place: str, scores: Any) -> dict[str, float]:
    """Return the scores of one agent, once they are in their ranges."""
    if not isinstance(scores, dict):
        raise UserError(f"{place}: expected scores by dimension, found {scores!r:.40}")
    values = {name: scores[name] for name in BY_NAME if name in scores}
    for name, value in values.items():
        low, high = BY_NAME[name].low, BY_NAME[name].high
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UserError(f"{place}: {name} is {value!r:.40}, expected a number from {low} to {high}")
    return values
