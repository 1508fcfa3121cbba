#!/usr/bin/env bash
# Train on several processes, one per GPU:  dist_train.sh CONFIG PROCESSES [options of train.py]
# With fewer GPUs than processes it runs on the CPU.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "Usage: $0 CONFIG PROCESSES [options of train.py]" >&2
    exit 2
fi
CONFIG=$1
PROCESSES=$2
source "$(dirname "$0")/torchrun.sh"
run_distributed train.py "$CONFIG" "${@:3}"
