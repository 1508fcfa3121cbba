# Sourced by the other scripts: sets PYTHON to the active interpreter if it has what
# requirements/runtime.txt (and, with REQUIRE="runtime tests", tests.txt) asks for, else to the one
# of the clone's .venv if there is one.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
REQUIRE="${REQUIRE:-runtime}"
fits() { "$1" "$ROOT/tools/check_env.py" $REQUIRE >/dev/null 2>&1; }
if [ -z "${PYTHON:-}" ]; then
    PYTHON="$(command -v python || command -v python3 || true)"
    if ! fits "$PYTHON" && [ -x "$ROOT/.venv/bin/python" ]; then
        PYTHON="$ROOT/.venv/bin/python"
    fi
fi
