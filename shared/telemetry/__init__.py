"""Spans that are visible while they run: published when they start and when they end (and over OTLP if configured).

    telemetry = Telemetry(service="gateway", instance=bus.instance, bus=bus, otlp_endpoint=None)
    async with telemetry.running():                       # beats, outbox, flush on exit
        with telemetry.span(SPAN_CHAT, parent=context.traceparent, kind="server", attributes={…}) as span:
            span.set_attribute(ATTR_INPUT_TOKENS, 12)
            child_context = span.traceparent              # goes into messages
            span.trace_id                                 # 32 hex digits

``parent``: a traceparent string, or empty for a new root; without ``parent`` the current span of this task is the
parent. An exception marks the span as error (``error.type`` = our code), cancellation as cancelled.

Starts and ends wait in a bounded outbox that the bus empties before it publishes anything else, so a span's start is
out before any message that carries its context. The current span follows tasks; a new thread has none, so give
``parent`` there. A span left open across a ``yield`` stays current in the consumer: give ``parent`` there too.
The span that a service opens for a message has the attributes of ``request.request_attributes(context)``: its tenant is
who may see it and the spans inside it.
Tests use ``recording.RecordingTelemetry()``: ``.messages``, ``.started(name)``, ``.ended(name)``.
"""
