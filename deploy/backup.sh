#!/usr/bin/env bash
# Backs up everything that cannot be made again: MLflow's database, artifacts, inference log, the drift job's memory.
#
#   deploy/backup.sh                          one backup, BACKUP_DIR/<time in UTC>
#   deploy/backup.sh --every-night 02:15      one a night (UTC), until it is stopped
#
# The database goes first: MLflow writes artifacts before the rows that name them and never changes them, so all that the dump names
# is there when the artifacts are copied. (Do not run `mlflow gc` meanwhile.) The drift job is held off by its own lock until all is copied,
# so that its memory, the records and what it has written to MLflow agree. Model servers go on: their log only grows.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${BACKUP_DIR:?the folder that backups go to}"
: "${ARTIFACTS:?where MLflow keeps artifacts, as s3://mlflow}"
: "${INFERENCE_LOG_DIR:?the inference log}"
: "${MONITORING_DIR:?the memory of the drift job}"
: "${PGDATABASE:?the database of MLflow; with PGHOST, PGUSER and PGPASSWORD}"
KEEP=${BACKUP_KEEP:-14}
[[ $KEEP =~ ^[1-9][0-9]*$ ]] || { echo "BACKUP_KEEP=$KEEP: expected how many backups to keep, at least 1" >&2; exit 2; }

complete() { # paths of complete backups, oldest first
    find "$BACKUP_DIR" -mindepth 1 -maxdepth 1 -type d -name '20*Z' | sort
}

one_backup() {
    local name new last part
    name=$(date -u +%Y-%m-%dT%H%M%SZ)
    rm -rf "$BACKUP_DIR"/.incomplete-*
    new="$BACKUP_DIR/.incomplete-$name"
    mkdir -p "$new" "$MONITORING_DIR"
    last=$(complete | tail -n 1)
    exec 9>>"$MONITORING_DIR/lock" # eye_disease/common/lock.py
    flock --timeout 3600 9 || { echo "the drift job has been at work for an hour; no backup" >&2; exit 1; }
    pg_dump --format=custom --file="$new/database.dump"
    for part in "artifacts $ARTIFACTS" "monitoring $MONITORING_DIR" "records $INFERENCE_LOG_DIR"; do
        python -m deploy.snapshot "${part#* }" "$new/${part%% *}" ${last:+--earlier "$last/${part%% *}"}
    done
    exec 9>&-
    rm -f "$new/monitoring/lock"
    (cd "$new" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
    mv "$new" "$BACKUP_DIR/$name" # appears when it is complete
    complete | head -n "-$KEEP" | xargs --no-run-if-empty rm -rf
    echo "Backup $BACKUP_DIR/$name"
}

case ${1:-} in
"") one_backup ;;
--every-night)
    [[ ${2:-} =~ ^([01][0-9]|2[0-3]):[0-5][0-9]$ ]] || { echo "expected --every-night HH:MM (UTC), as 02:15" >&2; exit 2; }
    trap 'exit 0' TERM INT
    while :; do
        wait_s=$(($(date -u -d "today $2" +%s) - $(date +%s)))
        ((wait_s > 0)) || wait_s=$((wait_s + 86400))
        sleep "$wait_s" & wait $! # `wait` hears signals, `sleep` would not
        # In a process of its own: bash would heed no failure inside a function that stands before `||`.
        deploy/backup.sh || echo "THE BACKUP FAILED; the next one comes tomorrow" >&2
    done
    ;;
*) echo "expected nothing, or --every-night HH:MM" >&2; exit 2 ;;
esac
