#!/usr/bin/env bash
# The methods side by side, from one SFT agent and its negatives. `bash dpo/compare.sh --help` has the settings.
set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/setup.sh"
exec "$SDPO_PYTHON" -m sotopia_sdpo.loop.compare "$@"
