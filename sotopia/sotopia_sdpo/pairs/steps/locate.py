"""Name the turn with which each negative went wrong: negative_data.json -> negative_data_error.json.

A model names it; or continuations prove it (`pairs/values.py` has the definitions); or a model names it, and
continuations say whether that holds; or it is the turn of which the agent was least sure.
"""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sotopia_sdpo.account import Missed, exit_code_of
from sotopia_sdpo.llm import limits
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.annotate import AskOptions, annotate, finish
from sotopia_sdpo.pairs.confidence import least_sure, log_probs_of
from sotopia_sdpo.pairs.continuations import Players, Side, agent_turns, played_of, read_playable, search_all
from sotopia_sdpo.pairs.forecast import forecast
from sotopia_sdpo.pairs.locate import located, location_question
from sotopia_sdpo.pairs.negatives import read_dialogues
from sotopia_sdpo.pairs.proof import ANOTHER, CONFIRMED, NO_FALL, NOT_PLAYED, VERDICTS, located_at, missed_of, verified
from sotopia_sdpo.pairs.published import LOCATED_TURNS, shares_table
from sotopia_sdpo.pairs.records import LocatedLog, LocatedSide, PlayedSide
from sotopia_sdpo.pairs.rubric import load_rubric
from sotopia_sdpo.pairs.tally import Tally, write_kept
from sotopia_sdpo.pairs.values import steepest
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.run.execute import probe
from sotopia_sdpo.step_files import LOCATED, NEGATIVES
from sotopia_sdpo.store import data_home, database_url, open_store


LocatedRecord = LocatedSide | LocatedLog


class LocateBy(StrEnum):
    """Who says which turn it is."""

    model = "model"
    replay = "replay"
    confidence = "confidence"


HowLocated = Annotated[
    LocateBy,
    typer.Option(
        "--by",
        help="model: an annotator names the turn; replay: continuations by the agent show it; confidence: the agent's "
        "own log-probabilities.",
    ),
]
Verify = Annotated[
    int | None,
    typer.Option(show_default=False, min=2, help="Play this many continuations to see if the named turn is the one."),
]
Agent = Annotated[str, typer.Option(show_default=False, help="With --verify: the agent, who plays continuations.")]


def main(
    by: HowLocated = LocateBy.model,
    model: options.TurnModel = options.DEFAULT_ANNOTATOR,
    rollouts: options.Rollouts = options.DEFAULT_ROLLOUTS,
    verify: Verify = None,
    agent: Agent = "",
    env: options.Env = "",
    max_actions: options.MaxActions = None,
    partner_model: options.PlayingPartner = "",
    evaluator_model: options.PlayingEvaluator = "",
    tag: options.ReplayTag = "",
    rubric: options.RubricFile = None,
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
    """Name the turn with which each negative went wrong."""
    source, target = (options.place(one, file, data_dir) for one, file in ((input, NEGATIVES), (output, LOCATED)))
    url = database_url(db, data_dir)
    options.check_replays(
        by is not LocateBy.model, verify, agent, {"--rubric": rubric, "--budget": budget, "--dry-run": dry_run}
    )
    players = Players(
        model if by is LocateBy.replay else agent,
        verify or rollouts,
        limits.Limits(concurrency or options.REPLAYS_IN_FLIGHT, max_attempts, timeout, requests_per_minute),
        partner_model,
        evaluator_model,
        seed,
        tag,
        load_template(prompt_template),
        env,
        max_actions,
    )
    if by is LocateBy.replay:
        return by_replay(source, target, url, players, limit)
    chosen = limits.Limits(concurrency or limits.QUESTIONS_IN_FLIGHT, max_attempts, timeout, requests_per_minute)
    if by is LocateBy.confidence:
        negatives = read_dialogues(source, NEGATIVES.writer, lambda: open_store(url, create=False))[:limit]
        return by_confidence(negatives, target, model, chosen)
    asked, folder = AskOptions(model, chosen, seed, budget), data_home(data_dir)
    good = load_rubric(rubric)
    negatives = read_dialogues(source, NEGATIVES.writer, lambda: open_store(url, create=False))[:limit]
    tally = Tally("negatives")
    if verify:
        negatives = _playable(source, url, players, limit, tally)
    questions = [location_question(negative, good) for negative in negatives]
    if dry_run:
        print(forecast(questions, asked, folder, url))
        return None
    annotation = annotate(questions, asked, folder, "negatives", url)
    found = [located(negative, answer) for negative, answer in annotation.answered(negatives)]
    not_played: Missed | None = None
    if verify and found:
        found, not_played = verify_all(found, url, players, tally)
    records = [_as_written(record) for record in found]
    code = finish(annotation, tally, target, records, folder, url, not_played)
    _compare(found)
    return code


def by_replay(source: Path, target: Path, url: str, players: Players, limit: int | None) -> int:
    """Locate by continuations alone."""
    tally, found = Tally("negatives"), []
    with open_store(url, create=False) as store:
        negatives = read_playable(source, NEGATIVES.writer, store, players, tally)[:limit]
        searches = [steepest(played_of(negative), players.rollouts) for negative in negatives]
        results, spent = search_all(store, negatives, searches, players)
    for negative, result in zip(negatives, results, strict=True):
        if result is None or result.fall.mean <= 0:
            tally.drop(NO_FALL if result else NOT_PLAYED)
            continue
        tally.keep()
        found.append(located_at(negative, result))
    write_kept(tally, "negative", [(target, [_as_written(record) for record in found])])
    print(spent.line(len(found)))
    _compare(found)
    return exit_code_of(missed_of(tally, spent))


def by_confidence(negatives: Sequence[Side], target: Path, model: str, chosen: limits.Limits) -> int:
    """Locate the turn that the agent was least sure of."""
    agent, tally, found = parse_model(model), Tally("negatives"), []
    probe([agent], chosen)
    for negative, log_probs in zip(negatives, log_probs_of(negatives, agent, chosen), strict=True):
        if isinstance(log_probs, str):
            tally.drop(f"without log-probabilities: {log_probs}")
            continue
        tally.keep()
        found.append(least_sure(negative, log_probs))
    write_kept(tally, "negative", [(target, [_as_written(record) for record in found])])
    _compare(found)
    most = next((reason for reason, _ in tally.dropped.most_common(1)), "")
    return exit_code_of(Missed(tally.dropped.total(), tally.total, tally.unit, most))


def verify_all(
    named: Sequence[LocatedRecord], url: str, players: Players, tally: Tally
) -> tuple[list[LocatedRecord], Missed]:
    """Keep the negatives whose named turn is confirmed, and those in which it is another one, at that one.

    Returns:
        These, and how many could not be played. The others are taken from what the tally keeps.
    """
    searches = [verified(played_of(one), players.rollouts, agent_turns(one).index(one.location)) for one in named]
    with open_store(url, create=False) as store:
        proofs, spent = search_all(store, named, searches, players)
    counts = Counter(proof.verdict if proof else NOT_PLAYED for proof in proofs)
    kept = []
    for one, proof in zip(named, proofs, strict=True):
        if proof is None or proof.verdict not in (CONFIRMED, ANOTHER):
            tally.reject(proof.verdict if proof else NOT_PLAYED)
            continue
        reason = one.reason if proof.verdict == CONFIRMED else ""
        kept.append(located_at(one, proof.found, reason, verdict=proof.verdict))
    print(f"named turns: {', '.join(f'{counts[verdict]} {verdict}' for verdict in VERDICTS)}; {spent.line(len(kept))}")
    return kept, missed_of(tally, spent)


def _playable(source: Path, url: str, players: Players, limit: int | None, tally: Tally) -> Sequence[Side]:
    """Read negatives that can be played on, and count the others."""
    with open_store(url, create=False) as store:
        return read_playable(source, NEGATIVES.writer, store, players, tally)[:limit]


def _compare(found: Sequence[LocatedRecord]) -> None:
    """Print where the located turns are beside the published ones, in SOTOPIA."""
    if played := [record.location for record in found if isinstance(record, LocatedSide)]:
        print(shares_table(LOCATED_TURNS, played))


def _as_written(record: LocatedRecord) -> dict[str, Any]:
    """Return the record of the file; it names its episode only where that is its dialogue's."""
    differs = isinstance(record, PlayedSide) and record.differs
    return {name: value for name, value in record.dump().items() if not (differs and name == "episode")}
