"""Match new sessions to the negatives they start from, and keep the pairs in which the new one went better.

`--pairs sdpo` reads negative_data_error.json and the episodes of task `hpos`, which continue from the located turn,
and writes preference_data.json and positive_data.json; `--pairs eto` reads negative_data.json and the episodes of
task `pos`, new sessions from the start, and writes eto_data.json. A session is matched by the negative's episode,
scenario, characters, role and located turn. The best one by goal, then relationship, is kept where its goal is higher
than the negative's, or equal with a higher relationship.

    python dpo/data_filtering_positive.py
    python dpo/data_filtering_positive.py --pairs eto
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.pairs.steps.positives import main


if __name__ == "__main__":
    script(main)
