"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ppl.serving.answers import Report
from ppl.serving.engine import Engine
from ppl.serving.http.store import Store

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """Counts for one server.

    Args:
        engine: Its line and its cache.
        store: Its clients' media.
    """

    def __init__(self, engine: Engine, store: Store) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("ppl_requests", "Requests answered", ["path", "status"], registry=registry)
        self._stages = Histogram(
            "ppl_stage_seconds", "Time of the stages of a question", ["stage"], buckets=_SECONDS, registry=registry
        )
        self._answers = Counter("ppl_answers", "Answers by how they ended", ["finish"], registry=registry)
        self._tokens = Counter(
            "ppl_tokens", "Tokens of prompts, of media in them, and of answers", ["kind"], registry=registry
        )
        registry.register(_State(engine, store))

    def count(self, report: Report) -> None:
        """Take an answer that has ended into account."""
        for stage, milliseconds in report.milliseconds.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        self._tokens.labels("prompt").inc(report.num_prompt_tokens)
        self._tokens.labels("visual").inc(report.num_visual_tokens)
        self._tokens.labels("answer").inc(report.num_tokens)
        self._answers.labels(report.finish).inc()  # last: once it is counted, all of it is

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class _State(Collector):
    """What is read off the engine when it is asked for."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self.engine = engine
        self.store = store

    def collect(self) -> Iterator[Metric]:
        media = self.engine.media
        yield GaugeMetricFamily("ppl_queue_length", "Questions that wait or are answered", self.engine.num_open)
        yield GaugeMetricFamily("ppl_cache_bytes", "Memory of encoded media", media.kept.num_bytes)
        yield GaugeMetricFamily("ppl_cache_media", "Encoded media that are kept", len(media.kept))
        yield CounterMetricFamily("ppl_cache_hits", "Media that were encoded already", media.num_found)
        yield CounterMetricFamily("ppl_cache_misses", "Media that had to be encoded", media.num_encoded)
        yield GaugeMetricFamily("ppl_uploads_bytes", "Disk space of clients' media", self.store.num_bytes)
