#!/usr/bin/env bash
# Serves two registered versions behind nginx, on one address. Ctrl-C stops all of it.
#   deploy/champion_challenger.sh --champion 1 --challenger 2 --percent 10   a tenth of the clients is answered by version 2
#   deploy/champion_challenger.sh --champion 1 --shadow 2                    version 2 gets a copy of every request
# --name MODEL names another model; any other option goes to proxy.py.
# Settings: MLFLOW_TRACKING_URI, INFERENCE_LOG_DIR, PROXY_PORT (8090), CHAMPION_PORT (8091), CHALLENGER_PORT (8092).
set -u
cd "$(dirname "$0")/.." || exit 1
. scripts/environment.sh
. scripts/processes.sh

NAME=eye-disease-classifier CHAMPION="" OTHER="" ROLE="" OPTIONS=()
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 needs a value"
    case $1 in
        --name) NAME=$2 ;;
        --champion) CHAMPION=$2 ;;
        --challenger | --shadow) ROLE=${1#--} OTHER=$2 ;;
        *) OPTIONS+=("$1" "$2") ;;
    esac
    shift 2
done
[ -n "$CHAMPION" ] && [ -n "$OTHER" ] || fail "expected --champion VERSION, and --challenger VERSION or --shadow VERSION"
PROXY_PORT=${PROXY_PORT:-8090}
CHAMPION_PORT=${CHAMPION_PORT:-8091}
CHALLENGER_PORT=${CHALLENGER_PORT:-8092}

[ -d .venv/bin ] && PATH="$PATH:$PWD/.venv/bin"
python -c 'import mlflow' 2>/dev/null || fail "python finds no mlflow: run ./start_mlflow.sh once, or put its environment on the PATH"
need_free_port PROXY_PORT "$PROXY_PORT"
need_free_port CHAMPION_PORT "$CHAMPION_PORT"
need_free_port CHALLENGER_PORT "$CHALLENGER_PORT"

settings=$(python -m eye_disease env) || exit 1 # of the stack that ./start_mlflow.sh runs, where nothing else is set
eval "$settings"
export MLFLOW_DISABLE_TELEMETRY="${MLFLOW_DISABLE_TELEMETRY:-true}"
export INFERENCE_LOG_DIR="${INFERENCE_LOG_DIR:-$PWD/inference_logs}"
FOLDER=$(mktemp -d) || fail "no folder for logs and configuration"
export TMPDIR="$FOLDER" # MLflow leaves the model that it has downloaded behind when it is stopped
CHAMPION_SERVER="" OTHER_SERVER="" PROXY=""

stop_all() {
    local status=$?
    trap - EXIT
    stop "$PROXY"
    stop "$OTHER_SERVER"
    stop "$CHAMPION_SERVER"
    if [ "$status" = 1 ]; then echo "The logs are in $FOLDER." >&2; else rm -rf "$FOLDER"; fi
    echo "Stopped."
}
trap 'exit 130' INT
trap 'exit 143' TERM
trap stop_all EXIT
set -m # every child leads a process group, so that stopping it stops its workers too

# serve ROLE VERSION PORT COMMAND...: in the background, with COMMAND before it.
serve() {
    local role=$1 version=$2 port=$3
    shift 3
    MODEL_ROLE=$role "$@" python -m mlflow models serve -m "models:/$NAME/$version" --port "$port" --env-manager local \
        >"$FOLDER/$role.log" 2>&1 </dev/null &
}

serve champion "$CHAMPION" "$CHAMPION_PORT" env
CHAMPION_SERVER=$!
serve "$ROLE" "$OTHER" "$CHALLENGER_PORT" nice -n "$([ "$ROLE" = shadow ] && echo 10 || echo 0)" # a shadow takes what is left over
OTHER_SERVER=$!
wait_until_up "the champion, version $CHAMPION" "$CHAMPION_SERVER" "http://127.0.0.1:$CHAMPION_PORT/ping" "$FOLDER/champion.log"
wait_until_up "the $ROLE, version $OTHER" "$OTHER_SERVER" "http://127.0.0.1:$CHALLENGER_PORT/ping" "$FOLDER/$ROLE.log"

python proxy.py --champion "127.0.0.1:$CHAMPION_PORT" "--$ROLE" "127.0.0.1:$CHALLENGER_PORT" --listen "127.0.0.1:$PROXY_PORT" \
    --folder "$FOLDER/proxy" --run ${OPTIONS[@]+"${OPTIONS[@]}"} >"$FOLDER/proxy.log" 2>&1 </dev/null &
PROXY=$!
wait_until_up "nginx" "$PROXY" "http://127.0.0.1:$PROXY_PORT/ping" "$FOLDER/proxy.log"

cat <<TEXT

  Photos to   http://127.0.0.1:$PROXY_PORT/invocations
  Versions    $CHAMPION (champion) and $OTHER ($ROLE)
  Records     $INFERENCE_LOG_DIR
  Compare     python drift_job.py compare --champion $CHAMPION --challenger $OTHER

Ctrl-C stops everything.
TEXT

while sleep 1; do
    kill -0 "$CHAMPION_SERVER" 2>/dev/null || fail "the champion has ended; its log is $FOLDER/champion.log"
    kill -0 "$PROXY" 2>/dev/null || fail "nginx has ended; its log is $FOLDER/proxy.log"
    if [ -n "$OTHER_SERVER" ] && ! kill -0 "$OTHER_SERVER" 2>/dev/null; then
        echo "THE $ROLE HAS ENDED: the champion answers everybody. The end of its log:" >&2
        tail -n 5 "$FOLDER/$ROLE.log" >&2
        stop "$OTHER_SERVER"
        OTHER_SERVER=""
    fi
done
