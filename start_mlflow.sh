#!/usr/bin/env bash
# Sets everything up and runs it: tracking server with UI, registered model, served model, drift job. Ctrl-C stops all of it.
# Settings: MLFLOW_PORT (5000), SERVE_PORT (8080), SERVE_WORKERS (1), PYTHON, and those of docs/reference.md.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # `sh start_mlflow.sh`
set +o posix -u
unset CDPATH
self=$0
while [ -L "$self" ]; do # the script may be a link to the one in the project
    target=$(readlink "$self")
    case $target in /*) self=$target ;; *) self=$(dirname "$self")/$target ;; esac
done
cd "$(dirname "$self")" || exit 1
. scripts/environment.sh && . scripts/processes.sh || exit 1

MLFLOW_PORT=${MLFLOW_PORT:-5000}
SERVE_PORT=${SERVE_PORT:-8080}
SERVE_WORKERS=${SERVE_WORKERS:-1}
STATE="$PWD/.mlflow-local"
TRACKER="" SERVER="" JOB=""

stop_all() {
    trap - EXIT
    stop "$JOB"
    stop "$SERVER"
    stop "$TRACKER"
    echo "Stopped."
}

[ "$MLFLOW_PORT" != "$SERVE_PORT" ] || fail "MLFLOW_PORT and SERVE_PORT are both $SERVE_PORT. Choose two ports: MLFLOW_PORT=<port> SERVE_PORT=<port> $0"
set_up_environment requirements.txt
need_free_port MLFLOW_PORT "$MLFLOW_PORT"
need_free_port SERVE_PORT "$SERVE_PORT"

mkdir -p "$STATE"
ignore_other_servers
export GATE_ENV_MANAGER="${GATE_ENV_MANAGER:-local}" # .venv holds what a version pins
export MLFLOW_DISABLE_TELEMETRY="${MLFLOW_DISABLE_TELEMETRY:-true}" # nothing is sent anywhere you have not named
export MLFLOW_TRACKING_URI="http://127.0.0.1:$MLFLOW_PORT"
export INFERENCE_LOG_DIR="${INFERENCE_LOG_DIR:-$STATE/inference_logs}"
export MODEL_CACHE_DIR="${MODEL_CACHE_DIR:-$STATE/model_cache}"
export MONITORING_DIR="${MONITORING_DIR:-$STATE/monitoring}"
export HEALTH_CHECK_URL="${HEALTH_CHECK_URL:-http://127.0.0.1:$SERVE_PORT}"
write_settings "$STATE/settings"

trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap stop_all EXIT
set -m # every child leads a process group, so that stopping it stops its workers too

MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false python -m mlflow server --host 127.0.0.1 --port "$MLFLOW_PORT" --workers 1 \
    --backend-store-uri "sqlite:///$STATE/mlflow.db" --artifacts-destination "$STATE/artifacts" \
    >"$STATE/tracking.log" 2>&1 </dev/null &
TRACKER=$!
wait_until_up "the tracking server" "$TRACKER" "$MLFLOW_TRACKING_URI/health" "$STATE/tracking.log"

versions=$(python register.py list) || fail "the registry cannot be read"
if [[ $versions == *"has no versions"* ]]; then
    echo "The registry is empty: registering the bundled model and promoting it to Production ..."
    python register.py register --stage Production 2>"$STATE/register.log" || { cat "$STATE/register.log" >&2; fail "registration failed"; }
fi

python -m eye_disease pages >"$STATE/pages" 2>&1 & # while the model is loaded
PAGES=$!
python serve.py --port "$SERVE_PORT" --workers "$SERVE_WORKERS" >"$STATE/serving.log" 2>&1 </dev/null &
SERVER=$!
wait_until_up "the served model" "$SERVER" "http://127.0.0.1:$SERVE_PORT/ping" "$STATE/serving.log"
grep -E '^Serving|NOT SERVING' "$STATE/serving.log"

echo "The answer to samples/retina.jpg:"
python samples/request.py samples/retina.jpg --url "http://127.0.0.1:$SERVE_PORT" || fail "the served model gave no answer; its log is $STATE/serving.log"

python drift_job.py run --every 15m >"$STATE/drift.log" 2>&1 </dev/null &
JOB=$!
echo "The drift job's first run:"
for _ in $(seq 240); do
    grep -qE '^[0-9]{4}-' "$STATE/drift.log" && break
    kill -0 "$JOB" 2>/dev/null || { cat "$STATE/drift.log" >&2; fail "the drift job has ended; its log is $STATE/drift.log"; }
    sleep 0.5
done
cat "$STATE/drift.log"

wait "$PAGES"
cat <<TEXT

$(cat "$STATE/pages")
  Served model                  http://127.0.0.1:$SERVE_PORT/invocations
  Records                       $INFERENCE_LOG_DIR
  Settings                      $STATE/settings, which the commands in other terminals read
  Drift job                     every 15 minutes; log in $STATE/drift.log, results in the MLflow UI

Send a photo of your own:

  (printf '{"dataframe_split":{"columns":["image"],"data":[["'; base64 < samples/retina.jpg | tr -d '\n'; printf '"]]}}') |
    curl -s --noproxy '*' -X POST -H 'Content-Type: application/json' --data-binary @- http://127.0.0.1:$SERVE_PORT/invocations

Ctrl-C stops everything.
TEXT

while sleep 1; do
    kill -0 "$TRACKER" 2>/dev/null || fail "the tracking server has ended; its log is $STATE/tracking.log"
    kill -0 "$SERVER" 2>/dev/null || fail "the served model has ended; its log is $STATE/serving.log"
    kill -0 "$JOB" 2>/dev/null || fail "the drift job has ended; its log is $STATE/drift.log"
done
