"""Stand-ins for those the drift job tells: the tracking server and an alert service."""

from typing import Any

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.monitoring.metrics import Point
from eye_disease.monitoring.spool import Waiting


class Mlflow:
    """Stands for the tracking server: takes each batch once, as the real writer sees to."""

    def __init__(self) -> None:
        self.batches: dict[str, tuple[Waiting, list[Point], set[str]]] = {}
        self.down = False

    def write(self, waiting: Waiting, deadline: float) -> None:
        if self.down:
            raise TrackingUnavailableError("no connection")
        files = {str(path.relative_to(waiting.artifacts)) for path in waiting.artifacts.rglob("*.*")}
        self.batches[waiting.key] = (waiting, [point for chunk in waiting.points(0, 1000) for point in chunk], files)

    def run_page(self, model: str, version: str) -> str | None:
        return None if self.down else f"http://mlflow/{model}/{version}"

    def points(self) -> list[Point]:
        return [point for _, points, _ in self.batches.values() for point in points]

    def metric(self, name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.points() if point.name == name]

    def last(self) -> Waiting:
        return list(self.batches.values())[-1][0]


class People:
    """Stands for an alert service."""

    service_name = "people"

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def notify(self, title: str, body: str, notify_type: Any) -> bool:
        self.told.append((title, body))
        return True
