#!/usr/bin/env bash
# Evaluate on several processes:  dist_test.sh CONFIG CHECKPOINT PROCESSES [options of test.py]
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "Usage: $0 CONFIG CHECKPOINT PROCESSES [options of test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
PROCESSES=$3
source "$(dirname "$0")/torchrun.sh"
run_distributed test.py "$CONFIG" "$CHECKPOINT" "${@:4}"
