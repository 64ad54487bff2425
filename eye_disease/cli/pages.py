"""Print where MLflow's pages show the runs, the model, and what monitoring found last."""

import mlflow
from mlflow import MlflowClient

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.common.errors import UserError
from eye_disease.common.mlflow_client import experiment_id, experiment_name, experiment_page, model_page
from eye_disease.common.text import clean
from eye_disease.monitoring.mlflow_writer import MlflowWriter
from eye_disease.registry.versions import list_versions
from model_code.schema import MODEL_NAME


def parser() -> Parser:
    line = Parser(prog="eye-disease pages", description=__doc__, example="--name my-model")
    line.add_argument("--name", default=MODEL_NAME, help="registered model name")
    return line


def main() -> None:
    command.prepare()
    arguments = parser().parse_args()
    command.run("pages", lambda: print("\n".join(f"  {what:<28}  {page}" for what, page in _pages(arguments.name))))


def _pages(name: str) -> list[tuple[str, str]]:
    server, client = mlflow.get_tracking_uri(), MlflowClient()
    if not server.startswith("http"):
        raise UserError(f"{server} has no pages: expected the address of a server, as http://127.0.0.1:5000.")
    experiment = experiment_id(client, experiment_name())
    writer = MlflowWriter(client, experiment_name(), 10)
    listed = [("Runs", experiment_page(server, experiment)), ("Model", model_page(server, name))]
    for entry in list_versions(name):
        if page := writer.known_run_page(name, entry.version):
            listed.append((f"Monitoring of version {clean(entry.version)}", page))
    return listed
