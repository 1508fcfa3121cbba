#!/usr/bin/env bash
# Set up an environment if there is none, and run the tests. Arguments go to pytest.
set -euo pipefail
REQUIRE="runtime export demo heif video reproduce tests"
source "$(dirname "$0")/setup_env.sh"
cd "$ROOT"
"$PYTHON" -m ruff check --quiet .
"$PYTHON" -m ruff format --check --quiet .
exec "$PYTHON" -m pytest "$@"
