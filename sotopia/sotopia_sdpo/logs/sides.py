"""Make records of the dialogues in some logs.

Comes in: files with their formats. Goes out: one record a dialogue, in the order of the files, and a count of every
dialogue that cannot be used, by reason. Invariant: a record's name says the file and the place in it, and is its own.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs.logged import Logged, Reader
from sotopia_sdpo.logs.messages import Unusable, UserTools, dialogue_of
from sotopia_sdpo.outcomes import named
from sotopia_sdpo.pairs.records import LoggedSide
from sotopia_sdpo.pairs.tally import Tally


class Sides:
    """Makes the records of several files, so that what one file names is known in the next."""

    def __init__(self, outcome: str | None, tools: list[dict[str, Any]] | None, user_tools: UserTools) -> None:
        """Take what holds for all files.

        Args:
            outcome: a name that every dialogue must have an outcome of; also a field to look for in chats.
            tools: the descriptions for dialogues whose log has none.
            user_tools: what becomes of the calls of a user.
        """
        self._outcome = outcome
        self._tools = tools
        self._user_tools = user_tools
        self._trials: Counter[tuple[str, str]] = Counter()
        self._asked: dict[tuple[str, str], tuple[str, Path]] = {}

    def read(self, path: Path, label: str, reader: Reader, tally: Tally) -> Iterator[LoggedSide]:
        """Yield the records of a file, and count those that cannot be used.

        Raises:
            UserError: if the file cannot be read, or has another task of the same name than an earlier one.
        """
        for number, record in enumerate(reader.records(path)):
            try:
                logged = reader.logged(record, [self._outcome] if self._outcome else [])
                side = self._side(logged, f"{label}/{number}", reader.says, tally)
            except Unusable as err:
                tally.drop(str(err))
                continue
            self._check_task(logged, reader.says, path)
            tally.keep()
            yield side

    def _side(self, logged: Logged, episode: str, source: str, tally: Tally) -> LoggedSide:
        """Return the record of a dialogue.

        Raises:
            Unusable: if it cannot be one.
        """
        if self._outcome and named(logged.outcomes, self._outcome) is None:
            raise Unusable(f"without the outcome {self._outcome}")
        dialogue = dialogue_of(logged.messages, self._user_tools)
        for note in sorted(dialogue.notes):
            tally.note(note)
        trial = self._trials[source, logged.task] if logged.trial is None else logged.trial
        self._trials[source, logged.task] += 1
        try:
            return LoggedSide(
                conversations=dialogue.turns,
                tools=logged.tools or self._tools,
                episode=episode,
                task=logged.task,
                trial=trial,
                source=source,
                agent_model=logged.agent_model,
                user_tools=self._user_tools if dialogue.has_user_tools else None,
                outcomes=logged.outcomes,
                tail=dialogue.tail or None,
            )
        except ValidationError as err:
            raise Unusable(f"that fit no record ({err.errors()[0]['type']})") from err

    def _check_task(self, logged: Logged, source: str, path: Path) -> None:
        """Check that a task of this name was always asked in the same words."""
        words, before = self._asked.setdefault((source, logged.task), (logged.asked or "", path))
        if words != (logged.asked or ""):
            raise UserError(
                f"{path}: its task {logged.task} is another one than that of {before}; "
                "give files of different tasks to separate runs, each with its own --data-dir"
            )


def labels(paths: Sequence[Path]) -> list[str]:
    """Name files by their stems, with as many folders before them as tell them apart; by their names if none do.

    Raises:
        UserError: if one is given twice.
    """
    resolved = [path.resolve() for path in paths]
    for twice, count in Counter(resolved).items():
        if count > 1:
            raise UserError(f"{twice}: given {count} times; give each file once")
    whole = [(*path.parent.parts, path.stem) for path in resolved]
    if len(set(whole)) < len(whole):
        whole = [path.parts for path in resolved]
    depth = 1
    while len({parts[-depth:] for parts in whole}) < len(whole) and depth < max(map(len, whole)):
        depth += 1
    return ["/".join(parts[-depth:]) for parts in whole]
