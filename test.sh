#!/usr/bin/env bash
# Sets up, then runs all tests, the quick ones first. Arguments go to pytest: `bash test.sh -k masks`.
set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/setup.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"
"$SDPO_PYTHON" -m ruff check .
"$SDPO_PYTHON" -m ruff format --check .
exec "$SDPO_PYTHON" -m pytest -q -p no:cacheprovider LLaMA-Factory/tests/unit LLaMA-Factory/tests/process "$@"
