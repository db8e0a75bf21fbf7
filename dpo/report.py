"""Show a file of preference pairs as one HTML page, for reading them and for tracing where they come from.

Reads preference_data_auto.json, preference_data.json, eto_data.json, or any list in the published form, and writes
one self-contained page beside it: pairs side by side, the located turn and the segment marked, calls of tools folded,
outcomes, reasons, filters, histograms, flags for `train.sh … drop_pairs=FILE`. Nothing is left out: a pair that cannot
be shown is an error. --dataset-folder also writes the pairs as a Hugging Face dataset with a card.

    python dpo/report.py preference_data_auto.json
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from sotopia_sdpo.pairs.options import script
from sotopia_sdpo.report.step import main


if __name__ == "__main__":
    script(main)
