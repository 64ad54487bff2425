"""The file MLflow runs to load the model (models-from-code, no pickle)."""

from mlflow.models import set_model

from model_code.pyfunc_model import EyeDiseaseModel

set_model(EyeDiseaseModel())
