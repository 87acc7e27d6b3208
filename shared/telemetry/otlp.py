"""Spans to an OpenTelemetry collector over OTLP/HTTP, from a thread of its own.

Input: the endpoint's URL. Output: a span processor. The endpoint may be slow or gone: spans are then dropped, which is
logged once per outage. It must not know the bus.
"""

import logging
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

REQUEST_SECONDS = 2.0
CLOSING_SECONDS = 2.0
PATH = "/v1/traces"

log = logging.getLogger(__name__)


class PatientExporter(SpanExporter):
    """Passes batches on, says once that the endpoint fails and once that it works again, and stops on time."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False
        self._stop_at = float("inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if time.monotonic() >= self._stop_at:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("OTLP endpoint does not take spans; they are dropped until it does")
        if self._failing and not failing:
            log.info("OTLP endpoint takes spans again")
        self._failing = failing
        return result

    def stop_soon(self) -> None:
        """Batches that are still queued have ``CLOSING_SECONDS``."""
        self._stop_at = time.monotonic() + CLOSING_SECONDS

    def shutdown(self) -> None:
        self._exporter.shutdown()


class OtlpProcessor(BatchSpanProcessor):
    def __init__(self, exporter: PatientExporter) -> None:
        super().__init__(exporter, max_queue_size=2048, schedule_delay_millis=1000, max_export_batch_size=512)
        self._patient = exporter

    def shutdown(self) -> None:
        self._patient.stop_soon()
        super().shutdown()


def otlp_processor(endpoint: str) -> SpanProcessor:
    """``endpoint`` is the base URL, as in ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
    # Imported here, so that a process without an endpoint pays nothing for the exporter.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    for name in ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they log every attempt; we log every outage
    base = endpoint.rstrip("/")
    url = base if base.endswith(PATH) else base + PATH
    return OtlpProcessor(PatientExporter(OTLPSpanExporter(endpoint=url, timeout=REQUEST_SECONDS)))
