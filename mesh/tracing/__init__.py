"""Spans: what one piece of work took part in a story, kept where it survives the process.

Read `span.py` first. `recorder` takes spans on the hot path and writes them from a thread, `store`
is the bounded files, `tail` reads them back, `stories` puts spans together by trace, `waterfall`
(pure) lays one story out, `otlp` (pure) says it in OpenTelemetry's words, `variables` reads the OTEL_… ones.
Nothing here may block or fail the work it describes.
"""
