#!/usr/bin/env bash
# Runs the tests on a few cores at once.   ./run_tests.sh [pytest arguments]     for example: ./run_tests.sh test/common -k records
set -euo pipefail
CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")"

./setup.sh
./setup.sh --horovod || echo "run_tests: going on without Horovod: the tests that train in 2 processes are skipped; mend what is said above to run them"

cores=$(env -u OMP_NUM_THREADS nproc)  # nproc takes OMP_NUM_THREADS for the number of cores
# One thread for each worker, or they wait for each other.
export OMP_NUM_THREADS=1 TF_NUM_INTEROP_THREADS=1 TF_NUM_INTRAOP_THREADS=1 CUDA_VISIBLE_DEVICES=
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
exec .venv/bin/python -m pytest -n $((cores < 4 ? cores : 4)) --dist loadfile "$@"
