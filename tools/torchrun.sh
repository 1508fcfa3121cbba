# Sourced by dist_train.sh and dist_test.sh. NNODES, NODE_RANK, MASTER_ADDR and PORT as in every
# OpenMMLab project; without a PORT on one machine, torchrun finds a free one.
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"

run_distributed() {
    local script=$1
    shift
    case "$PROCESSES" in
        '' | *[!0-9]* | 0)
            echo "PROCESSES must be a positive number, got '$PROCESSES'." >&2
            exit 2
            ;;
    esac
    local gpus
    gpus=$(cd "$ROOT/tools" && "$PYTHON" -c '
import early
early.start()
import torch
print(torch.cuda.device_count())')
    if [ "$gpus" -lt "$PROCESSES" ]; then
        echo "$PROCESSES processes and $gpus GPU(s): running on the CPU, with gloo."
        export CUDA_VISIBLE_DEVICES=""
        local threads=$(($(nproc) / PROCESSES))
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}"
    else
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    fi
    export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
    local meeting=(--standalone)
    if [ "${NNODES:-1}" -gt 1 ] || [ -n "${PORT:-}" ]; then
        meeting=(--node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}"
            --master_port="${PORT:-29500}")
    fi
    # torchrun itself, which would end with forty lines of its own below what a process had to say.
    exec "$PYTHON" -c '
import sys
sys.path.insert(0, sys.argv.pop(1))
import early
early.start()
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main
try:
    main()
except ChildFailedError as error:
    rank, failure = error.get_first_failure()
    sys.exit(f"Process {rank} ended with exit code {failure.exitcode}, so the run was stopped.")
except SignalException as error:
    sys.exit(f"The run was stopped by {error.sigval.name}.")
' "$ROOT/tools" --nnodes="${NNODES:-1}" \
        --nproc_per_node="$PROCESSES" "${meeting[@]}" \
        "$ROOT/tools/$script" "$@" --launcher pytorch
}
