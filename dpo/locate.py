"""Name the turn with which each negative went wrong.

Reads negative_data.json, writes negative_data_error.json: the same records with `location`, an index into
conversations that is always one of the agent's turns, and the `reason`. `--by model` asks a model; answers are kept in
the Redis of --db, else in answers.db of the data folder. `--by replay` has the agent play continuations from its turns
and takes the turn after which their mean score falls most; they are kept in the database, where they are the episodes
of task hpos. `--verify` does both: continuations say whether the turn that a model names is the one. `--by confidence`
takes the turn of which the agent was least sure. A run that was stopped goes on where it was, and nothing is paid
twice.

    python dpo/locate.py --model gpt-4o --concurrency 15
    python dpo/locate.py --rubric good.txt          of any agent: a text that says what is good and bad for it
    python dpo/locate.py --dry-run
    python dpo/locate.py --by replay --rollouts 8 --model custom/agent@http://localhost:8000/v1/
    python dpo/locate.py --model gpt-4o --verify 8 --agent custom/agent@http://localhost:8000/v1/
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.pairs.steps.locate import main


if __name__ == "__main__":
    script(main)
