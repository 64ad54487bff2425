#!/usr/bin/env bash
# Restores a backup of backup.sh into an EMPTY stack: database and artifact store up, everything else down, nothing in them yet.
#
#   deploy/restore.sh BACKUP_DIR/<time>
#
# Overwrites nothing: it stops before the first change if anything is there already. Afterwards start the rest, and check with
#   python -m deploy.check_versions
set -euo pipefail
backup=$(realpath "${1:?expected the folder of one backup}")
cd "$(dirname "$0")/.."

: "${ARTIFACTS:?where MLflow keeps artifacts, as s3://mlflow}"
: "${INFERENCE_LOG_DIR:?the inference log}"
: "${MONITORING_DIR:?the memory of the drift job}"
: "${PGDATABASE:?the database of MLflow; with PGHOST, PGUSER and PGPASSWORD}"

fail() {
    echo "restore: $*" >&2
    exit 1
}

[ -f "$backup/SHA256SUMS" ] || fail "$backup is not a complete backup: it has no SHA256SUMS"
(cd "$backup" && sha256sum --quiet --check SHA256SUMS) || fail "$backup is damaged"

tables=$(psql --no-align --tuples-only --command "select count(*) from pg_tables where schemaname = 'public'")
[ "$tables" = 0 ] || fail "database $PGDATABASE holds $tables tables already. Expected an empty one."
for folder in "$INFERENCE_LOG_DIR" "$MONITORING_DIR"; do
    [ -z "$(find "$folder" -type f ! -path "$MONITORING_DIR/lock" -print -quit 2>/dev/null)" ] || fail "$folder is not empty"
done

python -m deploy.snapshot --into-empty "$backup/artifacts" "$ARTIFACTS"
python -m deploy.snapshot --into-empty "$backup/records" "$INFERENCE_LOG_DIR"
rm -f "$MONITORING_DIR/lock"
python -m deploy.snapshot --into-empty "$backup/monitoring" "$MONITORING_DIR"
# Last, in one transaction: while it has not come, the stack is still empty for MLflow.
pg_restore --dbname="$PGDATABASE" --no-owner --no-privileges --exit-on-error --single-transaction "$backup/database.dump"
echo "Restored $backup"
