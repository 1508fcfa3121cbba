# Sourced by quickstart.sh and run_tests.sh: sets PYTHON to an interpreter that has what they need,
# REQUIRE by the names of files of requirements/. An active environment that fits is used as it is;
# else .venv is made in the clone, once, with this package in it.
REQUIRE="${REQUIRE:-runtime}"
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
if ! fits "$PYTHON"; then
    PYTHON="$ROOT/.venv/bin/python"
    if [ ! -x "$PYTHON" ]; then
        for base in python3.11 python3.12 python3.10 python3; do
            "$base" -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
                2>/dev/null && break
            base=""
        done
        if [ -z "$base" ]; then
            echo "No Python 3.10 to 3.12 with venv found; install one, or activate an environment" \
                "that fits requirements/runtime.txt." >&2
            exit 1
        fi
        "$base" -m venv "$ROOT/.venv"
    fi
    echo "Installing the tested set of packages into $ROOT/.venv (about 7 GB, some minutes) ..."
    extras=lite
    for name in $REQUIRE; do
        if [ "$name" != runtime ]; then # which is the package's own
            extras="$extras,$name"
        fi
    done
    "$PYTHON" -m pip install --quiet --disable-pip-version-check \
        -c "$ROOT/requirements/constraints.txt" -e "$ROOT[$extras]"
    "$PYTHON" "$ROOT/tools/check_env.py" $REQUIRE
fi
