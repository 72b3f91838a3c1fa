"""The program `otlp`: reads the spans that are on file and sends them to a collector.

It is a program of its own, beside the services: what they do never waits for a collector, their
walls need no way to it, and what a killed service had recorded is sent too. It alone needs to
reach the host that the OTEL_EXPORTER_OTLP_… variables name. The files are the queue: bounded, and
read on from where the collector last took something.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
import threading
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from msgspec import Struct

import mesh
from mesh import clock, codec, notify, telemetry
from mesh.errors import InvalidInput
from mesh.tracing import otlp, variables
from mesh.tracing.tail import Tail

if TYPE_CHECKING:
    from mesh.tracing.span import Span
    from mesh.tracing.variables import Export

LOOK_S = 0.5
"""Between two looks at the files."""

BATCH_MAX = 512
"""Spans in one request, as the specification's batching has it; some 300 KB."""

ATTEMPTS_MAX = 5
"""Tries of one batch; then it is dropped and counted."""

RETRY_S = (1.0, 16.0)
"""First and longest wait before the next try; doubling, with jitter, unless the collector says."""

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses that the protocol lets one try again."""

ANSWER_BYTES_MAX = 64 * 1024

PLACE = "otlp.json"
"""In `run/` of the data directory: up to where the collector has taken each file."""

log = telemetry.logger("exporter")


def run(data: str) -> NoReturn:
    """Send until SIGTERM; ends the process."""
    telemetry.setup_logging("otlp")
    wanted = variables.export(os.environ)
    if wanted is None or not wanted.usable:
        for complaint in wanted.complaints if wanted else ("no OTLP endpoint is set",):
            log.critical(complaint)
        sys.exit(os.EX_CONFIG)
    for complaint in wanted.complaints:
        log.warning(complaint)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    exporter = Exporter(wanted, Path(data), stop)
    notify.ready()
    log.info("sending spans", extra=telemetry.facts(url=wanted.shown))
    exporter.work()
    sys.exit(0)


class _Partial(Struct):
    rejectedSpans: str | int = 0  # noqa: N815  the protocol's own name


class _Answer(Struct):
    partialSuccess: _Partial | None = None  # noqa: N815  likewise


class Exporter:
    """Sends batches, one at a time, in the order in which the spans ended.

    Attributes:
        sent, dropped: spans, since the start.
    """

    def __init__(self, wanted: Export, data: Path, stop: threading.Event) -> None:
        """Go on where the last one stopped; else begin with what there is."""
        self.sent = self.dropped = 0
        self._wanted = wanted
        self._stop = stop
        self._place = data / "run" / PLACE
        self._resource = {
            **wanted.attributes,
            "service.namespace": wanted.namespace,
            "telemetry.sdk.name": "mesh",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": mesh.__version__,
        }
        self._tail = Tail(data, places=self._read_place())

    def work(self) -> None:
        """Until told to stop; then what is on file by then is tried once."""
        while not self._stop.wait(LOOK_S):
            self.look()
        self.look()

    def look(self) -> None:
        """Send what was added."""
        missed = self._tail.missed
        while spans := self._tail.read():
            for start in range(0, len(spans), BATCH_MAX):
                self._send(spans[start : start + BATCH_MAX])
            self._write_place()
        if self._tail.missed > missed:
            log.warning("files of spans went before they were read to their end")

    def _send(self, batch: list[Span]) -> None:
        """Deliver or drop. Never raises."""
        body = codec.encode(otlp.request(batch, self._resource, version=mesh.__version__))
        why = ""
        for attempt in range(ATTEMPTS_MAX):
            status, said, wait_s = self._post(body)
            if status // 100 == 2:  # noqa: PLR2004  HTTP's successes
                self._took(batch, said)
                return
            why = said if status == 0 else f"status {status}"
            if status not in {0, *AGAIN} or self._stop.is_set():
                break
            longest_s = min(RETRY_S[1], RETRY_S[0] * 2**attempt)
            if attempt + 1 < ATTEMPTS_MAX:
                self._stop.wait(
                    clock.uniform(longest_s / 2, longest_s) if wait_s is None else wait_s
                )
        self.dropped += len(batch)
        facts = telemetry.facts(spans=len(batch), dropped=self.dropped, why=why)
        log.warning("the collector took no spans", extra=facts)

    def _took(self, batch: list[Span], said: str) -> None:
        """Count, and heed a partial success."""
        rejected = 0
        with contextlib.suppress(InvalidInput, ValueError):
            answer = codec.decode(said or "{}", _Answer)
            rejected = int(answer.partialSuccess.rejectedSpans) if answer.partialSuccess else 0
        self.sent += len(batch) - rejected
        if rejected:
            self.dropped += rejected
            log.warning("the collector refused some spans", extra=telemetry.facts(spans=rejected))

    def _post(self, body: bytes) -> tuple[int, str, float | None]:
        """Status (0: no answer), what was said, and how long to wait if that was told."""
        wanted = self._wanted
        parts = urlsplit(wanted.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=wanted.timeout_s)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Content-Type": "application/json", **wanted.headers}
        try:
            connection.request("POST", target, body=body, headers=headers)
            answer = connection.getresponse()
            said = answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")
            return answer.status, said, _wait_s(answer.getheader("Retry-After"))
        except (OSError, http.client.HTTPException, ValueError) as error:
            return 0, f"{type(error).__name__}: {error}", None
        finally:
            connection.close()

    def _read_place(self) -> dict[bytes, int]:
        try:
            found = codec.decode(self._place.read_bytes(), dict[str, int])
            return {bytes.fromhex(name): done for name, done in found.items()}
        except (OSError, InvalidInput, ValueError):
            return {}

    def _write_place(self) -> None:
        draft = self._place.with_suffix(".new")
        found = {name.hex(): done for name, done in self._tail.places.items()}
        with contextlib.suppress(OSError):
            draft.write_bytes(codec.encode(found))
            draft.replace(self._place)


def _wait_s(header: str | None) -> float | None:
    """`Retry-After`, seconds or a date, at most the longest wait; None when it says nothing."""
    if not header:
        return None
    if header.isdecimal():
        return min(RETRY_S[1], float(header[:6]))
    try:
        at_s = parsedate_to_datetime(header).timestamp()
    except ValueError:
        return None
    return min(RETRY_S[1], max(0.0, at_s - clock.now_ms() / clock.MS_PER_S))
