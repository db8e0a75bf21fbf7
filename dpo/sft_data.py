"""Make SFT data of the experts' episodes: one dialogue for each side of each.

Reads the scored episodes of task `sft`, or the dialogues of a file, and writes sft_data.json for `stage: sft`.

    python dpo/sft_data.py
    python dpo/sft_data.py --models gpt-4-turbo --min-goal 7
    python dpo/sft_data.py --input dialogues.json --outcome reward --at-least 1
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.pairs.steps.sft_data import main


if __name__ == "__main__":
    script(main)
