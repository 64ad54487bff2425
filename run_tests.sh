#!/usr/bin/env bash
# Sets up .venv with the full set of packages and runs the linter and the tests. Arguments go to pytest.
set -eu
cd "$(dirname "$0")"
. scripts/environment.sh
set_up_environment requirements-test.txt
ruff check .
ruff format --check .
python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@" # a process a core; a file's tests share their servers
