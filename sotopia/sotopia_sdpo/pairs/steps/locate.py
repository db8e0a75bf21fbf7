"""Have a model name the turn with which each negative went wrong: negative_data.json -> negative_data_error.json."""

from sotopia_sdpo.llm import limits
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.annotate import AskOptions, annotate, finish
from sotopia_sdpo.pairs.forecast import forecast
from sotopia_sdpo.pairs.locate import located, location_question
from sotopia_sdpo.pairs.published import LOCATED_TURNS, shares_table
from sotopia_sdpo.pairs.records import PlayedSide, read_sides
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.step_files import LOCATED, NEGATIVES
from sotopia_sdpo.store import data_home


def main(
    model: options.Annotator = options.DEFAULT_ANNOTATOR,
    concurrency: options.Concurrency = limits.QUESTIONS_IN_FLIGHT,
    budget: options.Budget = None,
    dry_run: options.DryRun = False,
    limit: options.Limit = None,
    seed: options.AskSeed = 0,
    input: options.Input = None,  # noqa: A002 (what users type)
    output: options.Output = None,
    data_dir: options.DataDir = None,
    max_attempts: options.Attempts = limits.ATTEMPTS,
    timeout: options.Timeout = limits.TIMEOUT_S,
    requests_per_minute: options.RequestsPerMinute = None,
) -> int | None:
    """Have a model name the turn with which each negative went wrong."""
    chosen = limits.Limits(concurrency, max_attempts, timeout, requests_per_minute)
    asked, folder = AskOptions(model, chosen, seed, budget), data_home(data_dir)
    source = options.place(input, NEGATIVES, data_dir)
    negatives = read_sides(source, PlayedSide, NEGATIVES.writer)[:limit]
    questions = list(map(location_question, negatives))
    if dry_run:
        print(forecast(questions, asked, folder))
        return None
    annotation = annotate(questions, asked, folder, "negatives")
    found = [located(negative, answer) for negative, answer in annotation.answered(negatives)]
    path = options.place(output, LOCATED, data_dir)
    code = finish(annotation, Tally("negatives"), path, [record.dump() for record in found], folder)
    print(shares_table(LOCATED_TURNS, [record.location for record in found]))
    return code
