# Sourced after environment.sh by scripts that start servers: free ports, waiting until one answers, stopping.

# Loopback is never asked through a proxy, by this script or by what it starts.
no_proxy="${no_proxy:-${NO_PROXY:-}}"
[ "$no_proxy" = "*" ] || no_proxy="${no_proxy:+$no_proxy,}localhost,127.0.0.1,127.0.0.0/8,::1,[::1]"
export no_proxy NO_PROXY="$no_proxy"

# stop PID: ends a child and all it has started (each child leads a process group of its own).
stop() {
    [ -n "$1" ] && kill -0 -- "-$1" 2>/dev/null || return 0
    kill -TERM -- "-$1" 2>/dev/null
    for _ in $(seq 100); do
        kill -0 -- "-$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$1" 2>/dev/null
}

# need_free_port NAME PORT
need_free_port() {
    python - "$2" <<'PYTHON' || fail "port $2 is taken, or not a port. Stop what uses it, or choose another: $1=<port> $0"
import socket, sys
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", int(sys.argv[1])))
    except (OSError, ValueError, OverflowError):
        sys.exit(1)
PYTHON
}

# wait_until_up WHAT PID URL LOG
wait_until_up() {
    printf 'Waiting for %s ' "$1"
    for _ in $(seq 240); do
        kill -0 "$2" 2>/dev/null || { echo; tail -n 15 "$4" >&2; fail "$1 has ended; its log is $4"; }
        if python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)' "$3" 2>/dev/null; then
            echo " up"
            return
        fi
        printf '.'
        sleep 0.5
    done
    echo
    fail "$1 does not answer on $3; its log is $4"
}

# ignore_other_servers: from here on MLflow talks to the server that this script starts, and to it directly, whatever the caller's
# environment says. Only settings that lead nowhere else stay; the others are named, without their values, which may be secrets.
ignore_other_servers() {
    local name ignored=""
    for name in $(compgen -e | grep -E '^_?MLFLOW_' || true); do
        case $name in
            MLFLOW_PORT | MLFLOW_EXPERIMENT_NAME | MLFLOW_DISABLE_TELEMETRY | MLFLOW_HTTP_REQUEST_* | MLFLOW_ENV_ROOT | \
                MLFLOW_LOGGING_LEVEL | MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT | MLFLOW_*PROGRESS_BAR) ;;
            *)
                [ "${!name}" = "http://127.0.0.1:${MLFLOW_PORT:-}" ] || ignored="$ignored $name"
                unset "$name"
                ;;
        esac
    done
    [ -z "$ignored" ] || echo "Ignored, since this start uses the tracking server that it starts itself:$ignored"
}

# write_settings FILE: for commands in other terminals; what is set there wins (eye_disease/common/settings_file.py).
write_settings() {
    local name
    {
        echo "# Written by ./start_mlflow.sh at every start. Commands read it below their environment."
        for name in MLFLOW_TRACKING_URI MLFLOW_EXPERIMENT_NAME HEALTH_CHECK_URL GATE_ENV_MANAGER INFERENCE_LOG_DIR MONITORING_DIR MODEL_CACHE_DIR; do
            [ -z "${!name:-}" ] || echo "$name=${!name}"
        done
    } >"$1.new" && mv "$1.new" "$1" || fail "$1 cannot be written"
}
