"""Have a model name the turn with which each negative went wrong: negative_data.json -> negative_data_error.json."""

from typing import Any

from sotopia_sdpo.llm import limits
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.annotate import AskOptions, annotate, finish
from sotopia_sdpo.pairs.forecast import forecast
from sotopia_sdpo.pairs.locate import located, location_question
from sotopia_sdpo.pairs.negatives import read_negatives
from sotopia_sdpo.pairs.published import LOCATED_TURNS, shares_table
from sotopia_sdpo.pairs.records import LocatedSide, PlayedSide
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.step_files import LOCATED, NEGATIVES
from sotopia_sdpo.store import data_home, database_url, open_store


def main(
    model: options.Annotator = options.DEFAULT_ANNOTATOR,
    concurrency: options.Concurrency = limits.QUESTIONS_IN_FLIGHT,
    budget: options.Budget = None,
    dry_run: options.DryRun = False,
    limit: options.Limit = None,
    seed: options.AskSeed = 0,
    input: options.Input = None,  # noqa: A002 (what users type)
    output: options.Output = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
    max_attempts: options.Attempts = limits.ATTEMPTS,
    timeout: options.Timeout = limits.TIMEOUT_S,
    requests_per_minute: options.RequestsPerMinute = None,
) -> int | None:
    """Have a model name the turn with which each negative went wrong."""
    chosen = limits.Limits(concurrency, max_attempts, timeout, requests_per_minute)
    asked, folder = AskOptions(model, chosen, seed, budget), data_home(data_dir)
    source = options.place(input, NEGATIVES, data_dir)
    negatives = read_negatives(
        source, PlayedSide, NEGATIVES.writer, lambda: open_store(database_url(db, data_dir), create=False)
    )[:limit]
    questions = list(map(location_question, negatives))
    if dry_run:
        print(forecast(questions, asked, folder))
        return None
    annotation = annotate(questions, asked, folder, "negatives")
    found = [located(negative, answer) for negative, answer in annotation.answered(negatives)]
    path = options.place(output, LOCATED, data_dir)
    code = finish(annotation, Tally("negatives"), path, [_as_written(record) for record in found], folder)
    print(shares_table(LOCATED_TURNS, [record.location for record in found]))
    return code


def _as_written(record: LocatedSide) -> dict[str, Any]:
    """Return the record of the file; it names its episode only where that is its dialogue's."""
    return {name: value for name, value in record.dump().items() if not (record.differs and name == "episode")}
