"""Keep the dialogues of a file whose outcome is good enough, or bad enough.

Comes in: a file of dialogues, out of logs or SOTOPIA's, and a bound on one outcome, by its name. Goes out: the records
that meet it. Invariant: a dialogue without that outcome is neither good nor bad: it is left out and counted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import ge, le, lt
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.outcomes import Outcome, named
from sotopia_sdpo.pairs.draw import draw
from sotopia_sdpo.pairs.quests import is_quest
from sotopia_sdpo.pairs.records import LoggedSide, PlayedSide, check_unique, holds_logs, read_records
from sotopia_sdpo.pairs.tally import Tally, mean, write_kept
from sotopia_sdpo.step_files import read_list


WRITER = "from_logs.py"
InputOfLogs = Annotated[
    Path | None,
    typer.Option("--input", show_default=False, help="Filter these dialogues instead of stored episodes."),
]
OutcomeName = Annotated[
    str | None,
    typer.Option("--outcome", show_default=False, help="Filter the --input, or quests, by this outcome."),
]


BOUNDS: dict[str, Callable[[float, float], bool]] = {"--below": lt, "--at-most": le, "--at-least": ge}
NOT_TYPED: tuple[object, ...] = (None, "", [])


class Filter(NamedTuple):
    """Which dialogues are kept."""

    place: str
    """The file or database that they are in."""
    outcome: str
    """The name of what they are filtered by."""
    option: str
    """One of BOUNDS."""
    bound: float

    def write(
        self,
        records: Sequence[LoggedSide | PlayedSide],
        tally: Tally,
        what: str,
        target: Path,
        limit: int | None,
        seed: int,
    ) -> None:
        """Write the records that are kept, and say how many are not, and why.

        Args:
            records: what there is.
            tally: counts them.
            what: the name of one of them.
            target: where they go.
            limit: draw at most this many.
            seed: of that draw.

        Raises:
            UserError: if none of the records has such an outcome, or none is kept.
        """
        known = list(dict.fromkeys(one.name for record in records for one in record.outcomes))
        if self.outcome not in known:
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise UserError(f"{self.place}: no record has the outcome {self.outcome!r}; {there} (--outcome)")
        values = {record.name: one.value for record in records if (one := named(record.outcomes, self.outcome))}
        having = tally.only(records, lambda one: one.name in values, f"without {self.outcome}")
        bound = f"{self.option[2:].replace('-', ' ')} {self.bound:g}"
        is_met = BOUNDS[self.option]
        found = list(
            tally.only(having, lambda one: is_met(values[one.name], self.bound), f"with {self.outcome} not {bound}")
        )
        kept = draw(found, limit, seed, _lot_of)
        tally.drop("over --limit", len(found) - len(kept))
        tally.keep(len(kept))
        write_kept(tally, what, [(target, [record.dump() for record in kept])])
        tasks = {one.task if isinstance(one, LoggedSide) else one.env for one in kept}
        print(f"{len(tasks)} tasks, mean {self.outcome} {mean([values[one.name] for one in kept])}")


def _lot_of(record: LoggedSide | PlayedSide) -> str:
    """Return by what a dialogue is drawn: of a stored quest what was played, since its name holds that of the run."""
    if isinstance(record, LoggedSide) and is_quest(record.dump()):
        return f"{record.task}/{record.trial}/{record.agent_model}"
    return record.name


def read_any(path: Path) -> Sequence[LoggedSide | PlayedSide]:
    """Read dialogues out of logs, or sides of SOTOPIA.

    Raises:
        UserError: the first record that is wrong, or comes twice.
    """
    model: type[LoggedSide] | type[PlayedSide] = LoggedSide if holds_logs(read_list(path, WRITER)) else PlayedSide
    records: Sequence[LoggedSide | PlayedSide] = read_records(path, model, WRITER)
    check_unique(path, [one.name for one in records], WRITER)
    return records


def filter_of(
    path: Path | None, outcome: str | None, bounds: Mapping[str, float | None], others: Mapping[str, object]
) -> Filter | None:
    """Return the filter that was typed; None where stored episodes are meant.

    Args:
        path: the value of --input.
        outcome: the value of --outcome.
        bounds: what was typed, by option.
        others: the same of the options that choose among stored episodes.

    Raises:
        UserError: if an option is missing or does not belong there.
    """
    typed = _typed(bounds)
    if path is None:
        return None
    if unused := [option for option, value in others.items() if value not in NOT_TYPED]:
        raise UserError(f"{unused[0]} is for stored episodes; with --input, give --outcome NAME and {_listed(bounds)}")
    if outcome is None or len(typed) != 1:
        raise UserError(f"--input: expected --outcome NAME and {_listed(bounds)}, no more and no less")
    return Filter(str(path.expanduser()), outcome, *typed[0])


def filter_of_quests(
    place: str,
    score: Outcome,
    outcome: str | None,
    bounds: Mapping[str, float | None],
    others: Mapping[str, object],
    default: tuple[str, float | None],
) -> Filter:
    """Return the filter of stored episodes of an environment: what was typed, else the default.

    Args:
        place: the database.
        score: what one of them came to.
        outcome: the value of --outcome.
        bounds: what was typed, by option.
        others: the same of the options for sessions of SOTOPIA.
        default: the option, and its bound.

    Raises:
        UserError: if an option is missing or does not belong there.
    """
    if unused := [option for option, value in others.items() if value not in NOT_TYPED]:
        raise UserError(f"{unused[0]} is for sessions of SOTOPIA; episodes of an environment take {_listed(bounds)}")
    typed = _typed(bounds) or _typed(dict([default]))
    if len(typed) != 1:
        raise UserError(f"expected {_listed(bounds)} for {score.name}, found {len(typed)} of them")
    return Filter(place, outcome or score.name, *typed[0])


def refuse_outcome(outcome: str | None, bounds: Mapping[str, float | None]) -> None:
    """Refuse a filter by an outcome where sessions of SOTOPIA are meant.

    Raises:
        UserError: if one was typed.
    """
    if outcome is not None or _typed(bounds):
        raise UserError("--outcome and its bound filter the dialogues of a file; name it with --input")


def _typed(bounds: Mapping[str, float | None]) -> list[tuple[str, float]]:
    return [(option, bound) for option, bound in bounds.items() if bound is not None]


def _listed(bounds: Iterable[str]) -> str:
    """Name the options of which one is needed."""
    return " or ".join(f"{option} NUMBER" for option in bounds)
