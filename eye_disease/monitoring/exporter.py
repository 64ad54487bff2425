"""Prometheus metrics from the log: any number of server processes, and nothing added to them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector

from eye_disease.common.text import clean
from eye_disease.records.recent import Histogram, LogTail
from eye_disease.records.storage import Storage

STATES = ("ok", "warning", "drift", "insufficient_data")
ReadStates = Callable[[], Mapping[tuple[str, str], str]]
"""Gives (model, version) -> one of STATES, for the versions that the job has judged."""
_LABELS = ("model", "version")


class LogCollector(Collector):
    """Reads the log's news at every scrape."""

    def __init__(self, storage: Storage, read_states: ReadStates) -> None:
        self._tail = LogTail(storage)
        self._read_states = read_states

    def collect(self) -> Iterator[Metric]:
        """The metrics, by model and version."""
        self._tail.poll()
        predictions = CounterMetricFamily("eye_predictions", "Answered photos", labels=(*_LABELS, "class", "decision"))
        errors = CounterMetricFamily("eye_errors", "Photos with an error", labels=(*_LABELS, "code"))
        lost = CounterMetricFamily("eye_lost_records", "Records that could not be written", labels=_LABELS)
        unreadable = CounterMetricFamily("eye_unreadable_lines", "Lines of the log that are not records", labels=_LABELS)
        latency = HistogramMetricFamily("eye_inference_time_seconds", "Decoding, preprocessing and network", labels=_LABELS)
        confidence = HistogramMetricFamily("eye_confidence", "Confidence of the answers", labels=_LABELS)
        for named, numbers in sorted(self._tail.numbers.items()):
            version = _labels(named)
            for labels, count in _summed(numbers.predictions).items():
                predictions.add_metric((*version, *labels), count)
            for (code,), count in _summed({(code,): count for code, count in numbers.errors.items()}).items():
                errors.add_metric((*version, code), count)
            lost.add_metric(version, numbers.lost_records)
            unreadable.add_metric(version, numbers.unreadable_lines)
            latency.add_metric(version, _cumulative(numbers.latency_ms, 0.001), numbers.latency_ms.sum * 0.001)
            confidence.add_metric(version, _cumulative(numbers.confidence, 1.0), numbers.confidence.sum)
        yield from (predictions, errors, lost, unreadable, latency, confidence, self._states())

    def describe(self) -> list[Metric]:
        """Nothing: registration must not read the log."""
        return []

    def _states(self) -> Metric:
        family = GaugeMetricFamily("eye_drift_state", "1 for the state the job found last", labels=(*_LABELS, "state"))
        for version, status in sorted(self._read_states().items()):
            for state in STATES:
                family.add_metric((*_labels(version), state), float(state == status))
        return family


def start_exporter(port: int, storage: Storage, read_states: ReadStates) -> Callable[[], None]:
    """Serve the metrics on all addresses of this machine; call what it returns to stop. Raises OSError if the port is taken."""
    registry = CollectorRegistry()
    registry.register(LogCollector(storage, read_states))
    server, thread = start_http_server(port, registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def _labels(names: Iterable[object]) -> tuple[str, ...]:
    """What stands in a log may be anything; a label is read by people and by other programs."""
    return tuple(map(clean, names))


def _summed(counts: Mapping[Any, int]) -> dict[tuple[str, ...], int]:
    """By label, sorted: two names may have the same one, which Prometheus must be given once."""
    summed: Counter[tuple[str, ...]] = Counter()
    for names, count in counts.items():
        summed[_labels(names)] += count
    return dict(sorted(summed.items()))


def _cumulative(histogram: Histogram, unit: float) -> list[tuple[str, float]]:
    """Buckets as Prometheus wants them: each counts all values up to its bound."""
    total, buckets = 0, []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound * unit), float(total)))
    return buckets
