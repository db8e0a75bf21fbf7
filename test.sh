#!/usr/bin/env bash
# Sets up, then runs all tests; ends with one summary. `bash test.sh --fast` runs what needs no server and no environment
# of vLLM's, `--faults` kills and stops processes and servers for up to 20 minutes and prints what came of it; other
# arguments go to pytest, for instance `bash test.sh -k masks`.
set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/setup.sh"
case " $* " in *" --fast "* | *" --faults "*) ;; *) sdpo_setup_vllm ;; esac
exec "$SDPO_PYTHON" "$(dirname "${BASH_SOURCE[0]}")/tools/run_tests.py" "$@"
