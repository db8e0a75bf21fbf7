"""Choose the key segment of each pair, and cut both sides at its end.

Reads preference_data.json, writes preference_data_auto.json for `stage: sdpo`. The segment starts with the turn in
which the two sides part and ends on one of the agent's turns; the same number of these is taken on both sides, fewer
where one session is over before. A pair without a usable answer is dropped, or cut after a fixed number of messages
(`--fallback-length 3`; in pairs out of logs, of the agent's turns). Answers are kept in the Redis of --db, else in
answers.db of the data folder, so no call is paid twice. `--by replay` asks no model: the segment ends where
continuations of the positive are as good as the positive.

    python dpo/auto_tail.py --model gpt-4o --concurrency 15
    python dpo/auto_tail.py --rubric good.txt       of any agent: a text that says what is good and bad for it
    python dpo/auto_tail.py --dry-run
    python dpo/auto_tail.py --by replay --rollouts 8 --model custom/agent@http://localhost:8000/v1/
    python dpo/auto_tail.py --length 3 --output three.json     without a model, to compare: 3 messages, or `rest`
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.pairs.steps.auto_tail import main


if __name__ == "__main__":
    script(main)
