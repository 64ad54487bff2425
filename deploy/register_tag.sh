#!/usr/bin/env bash
# For CI: registers the bundled model, tags the version with the git tag, and hands its number on as `version` of the step.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:?expected the git tag}
: "${MLFLOW_TRACKING_URI:?the tracking server, a secret of the environment}"

said=$(python register.py register)
echo "$said"
version=$(sed -n 's/^Registered .* version \([0-9]*\) .*/\1/p' <<<"$said")
[ -n "$version" ] || { echo "register_tag: no version in: $said" >&2; exit 1; }
python - "$version" "$tag" <<'PYTHON'
import sys
from mlflow import MlflowClient
from model_code.schema import MODEL_NAME
MlflowClient().set_model_version_tag(MODEL_NAME, sys.argv[1], "git_tag", sys.argv[2])
PYTHON
echo "version=$version" >>"${GITHUB_OUTPUT:-/dev/stdout}"
