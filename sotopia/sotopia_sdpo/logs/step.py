"""Read logs of agents' runs, of any known format -> dialogues.json, and pairs of failed and successful trials."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs.logged import tools_of
from sotopia_sdpo.logs.messages import Unusable, UserTools
from sotopia_sdpo.logs.pairing import Bounds, LogPair, bounds_of, shared_pairs, trials_of, whole_pairs
from sotopia_sdpo.logs.recognise import READERS, Format, recognise
from sotopia_sdpo.logs.sides import Sides, labels
from sotopia_sdpo.outcomes import named
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.records import LoggedSide
from sotopia_sdpo.pairs.steps.positives import Method
from sotopia_sdpo.pairs.tally import Tally, mean
from sotopia_sdpo.step_files import DIALOGUES, ETO_PAIRS, PAIRS, write_json


class Match(StrEnum):
    """What the two sides of a pair share, besides what they share word for word."""

    state = "state"


TARGETS = {Method.eto: ETO_PAIRS, Method.sdpo: PAIRS}

Files = Annotated[list[Path], typer.Argument(metavar="FILE…", show_default=False, help="The logs.")]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", show_default=False, help="The format of all files. (default: recognised by content)"),
]
WhichPairs = Annotated[
    Method | None,
    typer.Option(
        "--pairs",
        show_default=False,
        help="Pair failed and successful trials of a task; eto: whole dialogues, sdpo: those that share a history.",
    ),
]
MatchOption = Annotated[
    Match | None,
    typer.Option(
        "--match",
        show_default=False,
        help="With --pairs sdpo: pair also where the same calls gave the same results; such pairs are marked.",
    ),
]
OutcomeOption = Annotated[
    str | None,
    typer.Option("--outcome", show_default=False, help="Which outcome counts. (default: reward, or the only one)"),
]
Below = Annotated[
    float | None,
    typer.Option(show_default=False, help="A trial below this has failed. (default: the end of the range)"),
]
AtLeast = Annotated[
    float | None,
    typer.Option(show_default=False, help="A trial with at least this is successful. (default: the end of the range)"),
]
Tools = Annotated[
    Path | None,
    typer.Option("--tools", show_default=False, help="The agent's tools as JSON, where the logs lack them."),
]
UserToolsOption = Annotated[
    UserTools,
    typer.Option("--user-tools", help="If the user calls tools too: keep those calls as text, or drop them."),
]
PairsOutput = Annotated[
    Path | None, typer.Option(show_default=False, help="The file to write the pairs to. (default: in the data folder)")
]


def main(
    files: Files,
    format: FormatOption = None,  # noqa: A002 (what users type)
    pairs: WhichPairs = None,
    match: MatchOption = None,
    outcome: OutcomeOption = None,
    below: Below = None,
    at_least: AtLeast = None,
    tools: Tools = None,
    user_tools: UserToolsOption = UserTools.text,
    output: options.Output = None,
    pairs_output: PairsOutput = None,
    data_dir: options.DataDir = None,
) -> None:
    """Read logs of agents' runs, and pair failed and successful trials of a task."""
    if pairs is not Method.sdpo and match is not None:
        raise UserError("--match is for --pairs sdpo; whole dialogues (eto) need not share a history")
    tally = Tally("dialogues")
    sides = read_logs(files, format, Sides(outcome, read_tools(tools), user_tools), tally)
    if not sides:
        raise UserError(f"no dialogue is left: {tally.line()}")
    written: list[tuple[Path, list[Any]]] = [
        (options.place(output, DIALOGUES, data_dir), [side.dump() for side in sides])
    ]
    lines = [tally.line([written[0][0]]), *tally.note_lines(), *tools_lines(sides), summary(sides)]
    if pairs is not None:
        bounds, paired = bounds_of(sides, outcome, below, at_least), Tally("pairs of a failed and a successful trial")
        found = make_pairs(sides, pairs, bounds, match, paired)
        target = options.place(pairs_output, TARGETS[pairs], data_dir)
        written.append((target, [side.dump() for pair in found for side in pair]))
        lines += [f"{bounds}", paired.line([target]), *paired.note_lines(), *match_lines(found)]
    write_json(written)
    print("\n".join(lines))


def read_logs(files: Sequence[Path], format: Format | None, sides: Sides, tally: Tally) -> list[LoggedSide]:  # noqa: A002
    """Read all files, and say of each which format it is."""
    found: list[LoggedSide] = []
    paths = [path.expanduser() for path in files]
    for path, label in zip(paths, labels(paths), strict=True):
        chosen = format or recognise(path)
        print(f"{path.name}: {READERS[chosen].says}" + ("" if format else " by its content (--format says otherwise)"))
        found += sides.read(path, label, READERS[chosen], tally)
    return found


def read_tools(path: Path | None) -> list[dict[str, Any]] | None:
    """Read the descriptions of the agent's tools.

    Raises:
        UserError: if the file has none.
    """
    if path is None:
        return None
    try:
        tools = tools_of(json.loads(path.expanduser().read_text("utf-8")))
    except (OSError, ValueError, RecursionError) as err:
        reason = "they are not a list" if isinstance(err, Unusable) else err
        raise UserError(f"{path}: cannot be read as tools ({reason}); give a JSON list of descriptions") from err
    if tools is None:
        raise UserError(f"{path}: expected a JSON list of tools, found none")
    return tools


def make_pairs(
    sides: Sequence[LoggedSide], method: Method, bounds: Bounds, match: Match | None, tally: Tally
) -> list[LogPair]:
    """Pair the trials.

    Raises:
        UserError: if there is no pair.
    """
    trials = trials_of(sides, bounds, tally)
    found = list(
        whole_pairs(trials, tally) if method is Method.eto else shared_pairs(trials, tally, match is Match.state)
    )
    if not found:
        remedy = (
            "; --match state also takes those with the same calls and results"
            if method is Method.sdpo and not match
            else ""
        )
        raise UserError(f"no pair is left: {tally.line()}; {bounds}{remedy}")
    return found


def tools_lines(sides: Sequence[LoggedSide]) -> list[str]:
    """Say how many dialogues have calls, and no description of what can be called."""
    lacking = [
        side
        for side in sides
        if not side.tools and any(turn["from"] == "function_call" for turn in side.conversations)
    ]
    return (
        [f"note: {len(lacking)} dialogues have calls but no descriptions of tools; give them with --tools"]
        if lacking
        else []
    )


def match_lines(pairs: Sequence[LogPair]) -> list[str]:
    """Say how many pairs share their state only."""
    count = sum(pair.negative.match is not None for pair in pairs)
    return (
        [f"note: {count} of the pairs share calls and results, not the words before them (match: state)"]
        if count
        else []
    )


def summary(sides: Sequence[LoggedSide]) -> str:
    """Describe the dialogues."""
    names = dict.fromkeys(one.name for side in sides for one in side.outcomes)
    values = {name: [one.value for side in sides if (one := named(side.outcomes, name))] for name in names}
    tasks = len({(side.source, side.task) for side in sides})
    return f"{tasks} tasks, " + ", ".join(f"mean {name} {mean(found)}" for name, found in values.items())
