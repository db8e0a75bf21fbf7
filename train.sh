#!/usr/bin/env bash
# Trains. `bash train.sh [CONFIG.yaml] [key=value ...]`, from any folder; README.md has the rest.
set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/setup.sh"
exec "$SDPO_PYTHON" -m llamafactory_sdpo.train "$@"
