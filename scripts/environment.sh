# Sourced by start_mlflow.sh, run_tests.sh and others: makes .venv with pinned packages, in seconds when nothing has changed.

fail() {
    echo "error: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 && is_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11, 3.12 or 3.13 was not found. Install one, or name it: PYTHON=/path/to/python3.11 $0"
}

is_python() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

# environment_problem: why the .venv that is there cannot be used, in a few words; nothing if it can.
environment_problem() {
    local script interpreter
    [ -e "$VENV" ] || [ -L "$VENV" ] || return 0
    [ -x "$VENV/bin/python" ] || { echo "it has no Python, or one that has gone"; return; }
    is_python "$VENV/bin/python" || { echo "its Python does not run, or is not 3.11, 3.12 or 3.13"; return; }
    "$VENV/bin/python" - "$VENV" 2>/dev/null <<'PYTHON' || { echo "its Python is another than it was made with"; return; }
import os, sys, sysconfig
sys.exit(not (os.path.samefile(sys.prefix, sys.argv[1]) and os.path.isdir(sysconfig.get_path("purelib"))))
PYTHON
    # A virtual environment that was moved, or whose folder was renamed, has commands that start the Python of its old place.
    for script in uvicorn mlflow pip; do
        [ -f "$VENV/bin/$script" ] || continue
        # `#!/path/bin/python`, or for a path with spaces `'''exec' "/path/bin/python" ...` in the second line.
        interpreter=$(sed -n -e '1s/^#! *\(.*python[0-9.]*\).*$/\1/p' -e "2s/^'''exec' \"*\([^\"]*\)\"* .*\$/\1/p" "$VENV/bin/$script" | head -n 1)
        case $interpreter in */env\ * | [!/]* | "") continue ;; esac # finds its Python by itself
        [ "$interpreter" -ef "$VENV/bin/python" ] || { echo "it was made in another folder, or this one was renamed"; return; }
    done
}

# is_environment: whether what is there was made as a virtual environment, however little of it is left.
is_environment() {
    [ -L "$VENV" ] || { [ -d "$VENV" ] && ! ls -A "$VENV" | grep -qvE '^(bin|include|lib|lib64|share|pyvenv\.cfg|\.gitignore|\.lock|CACHEDIR\.TAG|installed-.*)$'; }
}

# make_environment PYTHON: an empty .venv. One that cannot be used is taken away first, but nothing else.
make_environment() {
    local problem
    problem=$(environment_problem)
    if [ -n "$problem" ]; then
        is_environment || fail ".venv is no virtual environment, so it is left alone. Move it away, and one is made there"
        echo ".venv cannot be used: $problem. It is made anew."
        rm -rf "$VENV" || fail ".venv cannot be removed. Remove it by hand"
    fi
    if [ ! -e "$VENV" ]; then
        echo "Making the virtual environment .venv ..."
        "$1" -m venv "$VENV" || { rm -rf "$VENV"; fail "$1 could not make .venv (on Debian and Ubuntu: apt install python3-venv)"; }
    fi
}

# find_uv: sets UV to a uv that runs. It installs the same packages as pip, several times faster.
find_uv() {
    for UV in "$VENV/bin/uv" uv; do
        "$UV" --version >/dev/null 2>&1 && return
    done
    # A virtual environment that uv has made holds no pip, and one whose making was interrupted may hold none.
    UV="$VENV/bin/uv"
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip >/dev/null 2>&1 || return 1
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv<1"
}

# set_up_environment REQUIREMENTS_FILE: .venv holds at least these packages; sets VENV and puts it first on the PATH.
set_up_environment() {
    local python digest
    # Where pip and uv would install to instead of .venv, or what Python would import before it.
    unset PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT UV_SYSTEM_PYTHON PYTHONHOME PYTHONPATH VIRTUAL_ENV
    python=$(find_python) || exit 1
    VENV="$PWD/.venv"
    digest=$(cat requirements*.txt requirements/*.in constraints.txt pyproject.toml | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')
    make_environment "$python"
    if [ ! -e "$VENV/installed-$1-$digest" ]; then
        echo "Installing the packages of $1 (first time only, a minute or two) ..."
        if ! find_uv; then
            echo ".venv cannot be used: it holds neither pip nor uv. It is made anew."
            rm -rf "$VENV"
            make_environment "$python"
            find_uv || fail "uv could not be installed"
        fi
        "$UV" pip install --python "$VENV/bin/python" -r "$1" || fail "the packages of $1 could not be installed"
        # The command `eye-disease`, which runs the code of this checkout.
        "$UV" pip install --quiet --python "$VENV/bin/python" --no-deps --editable . || fail "the project could not be installed"
        touch "$VENV/installed-$1-$digest"
    fi
    # Where this is set, as it is in many containers, every process would compile every module anew, which takes longer than its work.
    unset PYTHONDONTWRITEBYTECODE
    export PATH="$VENV/bin:$PATH"
}
