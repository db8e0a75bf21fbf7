"""Import this first: where the project's packages are missing, go on with the interpreter that setup.sh made."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path


VENV_PYTHON = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"

if find_spec("sotopia_sdpo") is None:
    if VENV_PYTHON.exists() and Path(sys.prefix) != VENV_PYTHON.parents[1]:
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])
    print("error: this Python lacks the project's packages; run `bash setup.sh`, then this again", file=sys.stderr)
    sys.exit(2)
