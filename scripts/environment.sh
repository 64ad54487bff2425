# Sourced by start_mlflow.sh and run_tests.sh: makes .venv with pinned packages, in seconds when nothing has changed.

fail() {
    echo "error: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11, 3.12 or 3.13 was not found. Install one, or name it: PYTHON=/path/to/python3.11 $0"
}

# set_up_environment REQUIREMENTS_FILE: .venv holds at least these packages; sets VENV and puts it first on the PATH.
set_up_environment() {
    local python digest
    python=$(find_python) || exit 1
    VENV="$PWD/.venv"
    digest=$(cat requirements*.txt requirements/*.in constraints.txt pyproject.toml | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')
    if [ ! -x "$VENV/bin/python" ]; then
        echo "Making the virtual environment .venv ..."
        "$python" -m venv "$VENV" || fail "$python could not make .venv (on Debian and Ubuntu: apt install python3-venv)"
    fi
    if [ ! -e "$VENV/installed-$1-$digest" ]; then
        echo "Installing the packages of $1 (first time only, a minute or two) ..."
        # uv installs the same packages as pip, several times faster.
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv<1" || fail "uv could not be installed"
        "$VENV/bin/uv" pip install --python "$VENV/bin/python" -r "$1" || fail "the packages of $1 could not be installed"
        # The command `eye-disease`, which runs the code of this checkout.
        "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --editable . || fail "the project could not be installed"
        touch "$VENV/installed-$1-$digest"
    fi
    # Where this is set, as it is in many containers, every process would compile every module anew, which takes longer than its work.
    unset PYTHONDONTWRITEBYTECODE
    export PATH="$VENV/bin:$PATH"
}
