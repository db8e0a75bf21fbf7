"""Put runs of several agents on the same scenarios side by side.

Reads the scored episodes of every arm's tags; the first arm is what the others are compared with, paired by combo and
role. Several tags of an arm (seeds, trials) are pooled. Prints a table, and writes results.json if asked to.

    python dpo/results.py --arm sft=TAG --arm sdpo=TAG,TAG --output results.json
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.loop.results import main
from sotopia_sdpo.pairs.options import script


if __name__ == "__main__":
    script(main)
