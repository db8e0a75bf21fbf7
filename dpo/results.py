"""Put runs of several agents on the same scenarios side by side.

Reads the scored episodes of every arm's tags, which are its runs (seeds, trials). Prints what each arm is given, what
it gains over the first, and how any two differ, paired by combo, role and run; writes JSON, CSV, LaTeX and a figure if
asked to.

    python dpo/results.py --arm sft=TAG,TAG --arm sdpo=TAG,TAG --output results.json --csv results.csv --figure f.png
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.loop.results import main
from sotopia_sdpo.pairs.options import script


if __name__ == "__main__":
    script(main)
