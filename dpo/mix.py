"""Mix the pairs of several rounds, the newest file first.

Each pair is taken once, and where several files have pairs of one place, those of the newest file alone; a place is a
quest, or a scenario with its characters and the agent's role. So the newest agent's pairs are whole, and those of an
older round are kept where the newest agent has none. Writes preference_data_mixed.json.

    python dpo/mix.py round-2/preference_data_auto.json preference_data_auto.json
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.pairs.steps.mix import main


if __name__ == "__main__":
    script(main)
