"""Everything around the served model: what was answered, whether it can be trusted, and which version answers next."""

import os

from eye_disease.common.environment import prepare

prepare(os.environ)  # before MLflow is imported
