#!/usr/bin/env bash
# The same command as in the folder above.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../inference.sh" "$@"
