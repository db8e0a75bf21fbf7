"""Have a model name the turn with which each negative went wrong.

Reads negative_data.json, writes negative_data_error.json: the same records with `location`, an index into
conversations that is always one of the agent's turns, and the model's `reason`. Answers are kept in answers.db of the
data folder, so a run that was stopped goes on where it was, and no call is paid twice.

    python dpo/locate.py --model gpt-4o --concurrency 15
    python dpo/locate.py --dry-run
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.pairs.steps.locate import main


if __name__ == "__main__":
    script(main)
