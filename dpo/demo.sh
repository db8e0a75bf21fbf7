#!/usr/bin/env bash
# The whole loop on one machine, without keys, GPU or server unless settings say otherwise. `bash dpo/demo.sh --help` has
# them all.
set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/setup.sh"
exec "$SDPO_PYTHON" -m sotopia_sdpo.loop.demo "$@"
