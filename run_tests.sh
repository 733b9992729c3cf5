#!/usr/bin/env bash
# Checks the source and runs the tests on a few cores.   ./run_tests.sh [pytest arguments]     ./run_tests.sh test/common -k records
set -euo pipefail
CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")"

./setup.sh
./setup.sh --horovod || echo "run_tests: continuing without Horovod: tests that train in 2 processes are skipped"

.venv/bin/python -m ruff format --check .
.venv/bin/python -m ruff check .
.venv/bin/python .venv/bin/codespell  # the module's own -m drops the exit status
.venv/bin/python -m mypy common hccl

cores=$(env -u OMP_NUM_THREADS nproc)  # nproc takes OMP_NUM_THREADS for the number of cores
# One thread for each worker, or they wait for each other.
export OMP_NUM_THREADS=1 TF_NUM_INTEROP_THREADS=1 TF_NUM_INTRAOP_THREADS=1 CUDA_VISIBLE_DEVICES=
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
exec .venv/bin/python -m pytest -n $((cores < 4 ? cores : 4)) --dist loadfile "$@"
