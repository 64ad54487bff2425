#!/usr/bin/env bash
# Sets up .venv with the full set of packages and runs linters, type checker and tests. Arguments go to pytest.
# --fast: only the tests that need no server, no process of their own and no TensorFlow, without the type checker.
set -eu
cd "$(dirname "$0")"
. scripts/environment.sh
set_up_environment requirements-test.txt
ruff check .
ruff format --check .
codespell
case " $* " in *" --fast "*) ;; *) mypy ;; esac
python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@" # a process a core; a file's tests share their servers
