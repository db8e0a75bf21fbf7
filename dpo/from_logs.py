"""Read logs of any agent's runs as dialogues with outcomes, and pair failed and successful trials of one task.

Reads results of τ-bench, τ²-bench and verifiers, logs of inspect_ai, OpenAI chats and ShareGPT dialogues with a
reward, score or label; which it is, the content says. Writes dialogues.json: one record a dialogue, with its outcomes,
task and trial. `--pairs eto` writes eto_data.json too: every failed trial with every successful one of its task.
`--pairs sdpo` writes preference_data.json: those of these pairs that share a history up to a turn of the agent's; with
`--match state` also those in which the same calls gave the same results up to there, whatever the words.

    python dpo/from_logs.py results.json
    python dpo/from_logs.py results.json --pairs sdpo --match state --tools tools.json
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.logs.step import main
from sotopia_sdpo.pairs.options import script


if __name__ == "__main__":
    script(main)
