"""Choose the key segment of each pair, and cut both sides at its end.

preference_data.json -> preference_data_auto.json. A model chooses it, or continuations show where the positive is as
good as won (`regained` in `pairs/values.py`). With `--length` all segments have one length.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo.account import exit_code_of
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm import limits
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.annotate import NO_USABLE_ANSWER, AskOptions, annotate, finish
from sotopia_sdpo.pairs.choose import KeySegment, segment_question
from sotopia_sdpo.pairs.continuations import Players, agent_turns, check_played, played_of, search_all
from sotopia_sdpo.pairs.forecast import forecast
from sotopia_sdpo.pairs.proof import NOT_PLAYED, missed_of, regained_reason
from sotopia_sdpo.pairs.published import SEGMENT_LENGTHS, shares_table
from sotopia_sdpo.pairs.records import LoggedSide, PlayedSide, read_pairs
from sotopia_sdpo.pairs.rubric import load_rubric
from sotopia_sdpo.pairs.segments import PartedPair, parted_pairs
from sotopia_sdpo.pairs.tally import Tally, mean, write_kept
from sotopia_sdpo.pairs.values import regained
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.step_files import PAIRS, SEGMENT_PAIRS
from sotopia_sdpo.store import data_home, database_url, open_store


FallbackLength = Annotated[
    int | None,
    typer.Option(
        show_default=False,
        min=1,
        help="Cut a pair without a usable answer after this many messages, see --length. (default: drop it)",
    ),
]
REST = "rest"
TURNS = "turns of the agent's"
SHORTER = "the worse side is over before the value is regained"
Length = Annotated[
    str | None,
    typer.Option(
        show_default=False,
        metavar="N|rest",
        help="Ask no model: cut all pairs after this many messages, an odd number (pairs out of logs: after this many "
        "turns of the agent's), or where the shorter session ends.",
    ),
]


def main(
    by: options.Turn = options.By.model,
    model: options.TurnModel = options.DEFAULT_ANNOTATOR,
    rollouts: options.Rollouts = options.DEFAULT_ROLLOUTS,
    env: options.Env = "",
    max_actions: options.MaxActions = None,
    partner_model: options.PlayingPartner = "",
    evaluator_model: options.PlayingEvaluator = "",
    tag: options.ReplayTag = "",
    rubric: options.RubricFile = None,
    fallback_length: FallbackLength = None,
    length: Length = None,
    concurrency: options.InFlight = None,
    budget: options.Budget = None,
    dry_run: options.DryRun = False,
    limit: options.Limit = None,
    seed: options.AskSeed = 0,
    input: options.Input = None,  # noqa: A002 (what users type)
    output: options.Output = None,
    prompt_template: options.PromptTemplate = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
    max_attempts: options.Attempts = limits.ATTEMPTS,
    timeout: options.Timeout = limits.TIMEOUT_S,
    requests_per_minute: options.RequestsPerMinute = None,
) -> int | None:
    """Choose the key segment of each pair, and cut both sides at its end."""
    is_replay = by is options.By.replay
    asks = {"--rubric": rubric, "--budget": budget, "--dry-run": dry_run, "--fallback-length": fallback_length}
    options.check_replays(is_replay, None, "", {**asks, "--length": length})
    in_flight = concurrency or (options.REPLAYS_IN_FLIGHT if is_replay else limits.QUESTIONS_IN_FLIGHT)
    chosen = limits.Limits(in_flight, max_attempts, timeout, requests_per_minute)
    asked, folder, url = AskOptions(model, chosen, seed, budget), data_home(data_dir), database_url(db, data_dir)
    good = load_rubric(rubric)
    if length is not None and (dry_run or fallback_length is not None or rubric is not None):
        raise UserError("--length asks no model: it takes neither --dry-run nor --fallback-length nor --rubric")
    tally, path = Tally("pairs"), options.place(output, SEGMENT_PAIRS, data_dir)
    pairs = read_pairs(options.place(input, PAIRS, data_dir), PAIRS.writer)[:limit]
    are_logs = any(isinstance(pair.positive, LoggedSide) for pair in pairs)
    fallback = turns_of("--fallback-length", fallback_length, are_logs)
    fixed = turns_of("--length", length, are_logs)
    parted = parted_pairs(pairs, tally)
    if fixed is not None:
        cut_all(parted, fixed, tally, path, are_logs)
        return None
    if is_replay:
        template = load_template(prompt_template)
        players = Players(
            model, rollouts, chosen, partner_model, evaluator_model, seed, tag, template, env, max_actions
        )
        return by_replay(parted, players, url, tally, path, are_logs)
    questions = [segment_question(one, good) for one in parted]
    if dry_run:
        print(forecast(questions, asked, folder, url))
        return None
    annotation = annotate(questions, asked, folder, "pairs", url)
    if fallback is not None:
        reason = f"{NO_USABLE_ANSWER}: cut after {fallback_length} {TURNS if are_logs else 'messages'}"
        if count := annotation.fall_back([KeySegment(fallback, reason)] * len(parted)):
            annotation.notes.append(f"{count} of the pairs that are kept have {reason}")
    answered = annotation.answered(parted)
    code = finish(
        annotation, tally, path, [side for one, chosen in answered for side in one.cut(*chosen)], folder, url
    )
    print(lengths_of([(one, chosen.length) for one, chosen in answered], are_logs))
    return code


def by_replay(
    parted: Sequence[PartedPair], players: Players, url: str, tally: Tally, path: Path, are_logs: bool
) -> int:
    """Cut every pair where its positive is as good as won, and write and count them.

    Raises:
        UserError: if there is none, or they cannot be played on.
    """
    positives, searches = [], []
    for one in parted:
        side = one.pair.positive
        if not isinstance(side, PlayedSide | LoggedSide):
            raise UserError("pairs in the published form name no episodes, so nobody can play them on")
        positives.append(side)
        searches.append(regained(played_of(side), agent_turns(side).index(one.start) + 1, players.rollouts))
    if positives:
        check_played(positives, players)
    with open_store(url, create=False) as store:
        results, spent = search_all(store, positives, searches, players)
    cut = []
    for one, side, result in zip(parted, positives, results, strict=True):
        if result is None:
            tally.drop(NOT_PLAYED)
            continue
        tally.keep()
        length = result.point - agent_turns(side).index(one.start)
        is_whole = one.turns(length) == length
        reason = regained_reason(result.value, played_of(side).score) if is_whole else SHORTER
        cut.append((one, length, reason))
    write_kept(tally, "pair", [(path, [side for one, length, reason in cut for side in one.cut(length, reason)])])
    print(spent.line(len(cut)))
    print(lengths_of([(one, length) for one, length, _ in cut], are_logs))
    return exit_code_of(missed_of(tally, spent))


def turns_of(option: str, typed: int | str | None, are_logs: bool) -> int | None:
    """Return the value of an option that is a length, in turns of the agent's.

    Args:
        option: its name.
        typed: a number of messages, in pairs out of logs of the agent's turns; or `rest`.
        are_logs: whether these are such pairs.

    Raises:
        UserError: if it is no such number; from one of the agent's turns to another, SOTOPIA's sessions have an odd
            number of messages.
    """
    if typed is None or typed == REST:
        return None if typed is None else sys.maxsize
    number = int(typed) if str(typed).isdecimal() else 0
    if are_logs and number < 1:
        raise UserError(f"{option} {typed}: expected a number of {TURNS}")
    if not are_logs and not number % 2:
        raise UserError(f"{option} {typed}: expected an odd number, from agent turn to agent turn")
    return number if are_logs else (number + 1) // 2


def cut_all(parted: Sequence[PartedPair], length: int, tally: Tally, path: Path, are_logs: bool) -> None:
    """Cut every pair after this many turns of the agent's, and write and count them.

    Raises:
        UserError: if there is none.
    """
    tally.keep(len(parted))
    write_kept(tally, "pair", [(path, [side for one in parted for side in one.cut(length, "a fixed length")])])
    print(lengths_of([(one, length) for one in parted], are_logs))


def lengths_of(cut: Sequence[tuple[PartedPair, int]], are_logs: bool) -> str:
    """Compare the lengths of segments with the published ones; those out of logs are counted in the agent's turns."""
    if not are_logs:
        segments = [one.segments(length)[1] for one, length in cut]
        return shares_table(SEGMENT_LENGTHS, [end - start for start, end in segments])
    turns = [one.turns(length) for one, length in cut] or [0]
    return f"segment length: {min(turns)} to {max(turns)} {TURNS}, {mean(turns)} on average"
