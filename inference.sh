#!/usr/bin/env bash
# Serves a trained model. `bash inference.sh [CONFIG.yaml] [key=value ...]`, from any folder; docs/serving.md has the rest.
set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/setup.sh"
exec "$SDPO_PYTHON" -m llamafactory_sdpo.inference "$@"
