#!/usr/bin/env bash
# Set up an environment if there is none, and train and evaluate SpyncoGan on photographs that ship
# with scikit-image and scikit-learn: some minutes on two CPU cores. With exact consistency, since the
# paper's plain network (spynco_demo.py) needs longer than that to beat the grey input.
set -euo pipefail
source "$(dirname "$0")/setup_env.sh"
cd "$ROOT"
"$PYTHON" tools/train.py configs/spynco_exact_demo.py --work-dir work_dirs/spynco_demo "$@"
echo
echo "Results:  work_dirs/spynco_demo/results.json"
echo "Picture:  work_dirs/spynco_demo/pyramid.png"
