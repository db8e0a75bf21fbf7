#!/usr/bin/env bash
# Sets up, then runs all tests: quick ones, commands as processes, real servers. Arguments go to pytest, for instance
# `bash test.sh -k masks`.
set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/setup.sh"
sdpo_setup_vllm
cd "$(dirname "${BASH_SOURCE[0]}")"

# Suites with helpers of their own names, so one pytest each. Exit code 5: nothing in this one was chosen by -k.
suite() { "$SDPO_PYTHON" -m pytest -q -p no:cacheprovider --disable-warnings "$@" || [ $? -eq 5 ]; }

"$SDPO_PYTHON" -m ruff check .
"$SDPO_PYTHON" -m ruff format --check .
suite LLaMA-Factory/tests/unit LLaMA-Factory/tests/gpu "$@"
suite sotopia/tests/unit sotopia/tests/process sotopia/tests/servers "$@"
suite dpo/tests "$@"
suite LLaMA-Factory/tests/process LLaMA-Factory/tests/servers "$@"
