"""Keep the sides of episodes that went badly.

Reads the scored episodes of task `neg`, writes negative_data.json for locate.py, and negative_combos.json for
`sotopia benchmark --task pos`. The default thresholds are those of the published code, `--preset paper` those of the
paper (arXiv 2501.01821); both scores are whole numbers. With `--input`, the dialogues of a file are filtered instead,
by any outcome that they have.

    python dpo/data_filtering_negative.py
    python dpo/data_filtering_negative.py --input dialogues.json --outcome reward --below 1
    python dpo/data_filtering_negative.py --partner-model gpt-4o --preset paper
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.pairs.steps.negatives import main


if __name__ == "__main__":
    script(main)
