"""Have a model name the turn with which each negative went wrong.

Reads negative_data.json, writes negative_data_error.json: the same records with `location`, an index into
conversations that is always one of the agent's turns, and the model's `reason`. Answers are kept in answers.db of the
data folder, so a run that was stopped goes on where it was, and no call is paid twice.

    python dpo/locate.py --model gpt-4o --concurrency 15
    python dpo/locate.py --dry-run
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.llm import limits
from sotopia_sdpo.llm.answers import AnswerError
from sotopia_sdpo.play.dialogue import check_location
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs import verdicts
from sotopia_sdpo.pairs.annotate import AskOptions, annotate, finish
from sotopia_sdpo.llm.ask import Question
from sotopia_sdpo.pairs.blocks import choices, fill, instructions, numbered
from sotopia_sdpo.pairs.forecast import forecast
from sotopia_sdpo.pairs.published import LOCATED_TURNS, shares_table
from sotopia_sdpo.pairs.records import Located, Negative, check_unique, read_records, starts_at
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.pairs.verdicts import Verdict
from sotopia_sdpo.step_files import LOCATED, NEGATIVES
from sotopia_sdpo.store import data_home


PROMPT = "locate.txt"
INDEX = "index"


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
) -> None:
    """Have a model name the turn with which each negative went wrong."""
    chosen = limits.Limits(concurrency, max_attempts, timeout, requests_per_minute)
    asked = AskOptions(model, chosen, seed, budget)
    folder = data_home(data_dir)

    def step() -> int | None:
        source = options.place(input, NEGATIVES, data_dir)
        negatives = read_records(source, Negative, NEGATIVES.writer)
        check_unique(source, [negative.name for negative in negatives], NEGATIVES.writer)
        negatives = negatives[:limit]
        questions = [question_about(negative) for negative in negatives]
        if dry_run:
            print(forecast(questions, asked, folder))
            return None
        annotation = annotate(questions, asked, folder, "negatives")
        found = [located(negative, verdict) for negative, verdict in annotation.answered(negatives)]
        path = options.place(output, LOCATED, data_dir)
        code = finish(annotation, Tally("negatives"), path, [record.dump() for record in found], folder)
        print(shares_table(LOCATED_TURNS, [record.location for record in found]))
        return code

    options.end_with(step)


def question_about(negative: Negative) -> Question[Verdict]:
    """Ask for the turn that went wrong."""
    turns = negative.conversations
    start = starts_at(turns)
    values = {
        "goal": f"{negative.goal:g}",
        "relationship": f"{negative.relationship:g}",
        "instructions": instructions(turns[start]),
        "dialogue": numbered(turns, start + 1),
        "choices": choices(turns, start + 1, len(turns)),
    }

    def read(text: str) -> Verdict:
        verdict = verdicts.read(text, INDEX)
        try:
            check_location(turns, verdict.indices[0])
        except ValueError as err:
            raise AnswerError(f"{err}; choose one of {values['choices']}") from err
        return verdict

    return Question(fill(PROMPT, values), "location", verdicts.schema(INDEX), read)


def located(negative: Negative, verdict: Verdict) -> Located:
    """Add the answer to a negative."""
    return Located(**{**negative.dump(), "location": verdict.indices[0], "reason": verdict.reason})


if __name__ == "__main__":
    options.script(main)
