"""The standard variables of OpenTelemetry that are heeded here, read and checked.

    OTEL_SDK_DISABLED                      true: no spans are recorded
    OTEL_TRACES_SAMPLER, …_SAMPLER_ARG     which stories are recorded; parentbased_always_on
    OTEL_EXPORTER_OTLP_ENDPOINT            where to send them: /v1/traces is added
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT     the same, used as it is
    OTEL_EXPORTER_OTLP_[TRACES_]HEADERS    name=value,…, percent-encoded
    OTEL_EXPORTER_OTLP_[TRACES_]TIMEOUT    milliseconds for one request (10000)
    OTEL_TRACES_EXPORTER                   none: send nothing
    OTEL_SERVICE_NAME                      service.namespace of what is sent: a mesh has several
                                           services, each with its own service.name
    OTEL_RESOURCE_ATTRIBUTES               name=value,…, percent-encoded, for all of them

A value that cannot be heeded is complained about and stands for the default, as the specification
has it. Empty means unset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from mesh import codec
from mesh.tracing.context import sampler

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLERS = ("always_on", "always_off", "traceidratio")

PARENT_BASED = "parentbased_"

TIMEOUT_MS = 10_000

TRACES_PATH = "/v1/traces"


class Sampling(Struct, frozen=True):
    """What is recorded."""

    recording: bool
    ratio: float
    parent: bool
    complaints: tuple[str, ...] = ()

    def choose(self) -> None:
        """Have this process's stories begin so."""
        sampler.ratio, sampler.parent = self.ratio, self.parent


def sampling(environment: Mapping[str, str]) -> Sampling:
    """What the variables say of recording."""
    complaints: list[str] = []
    name = environment.get("OTEL_TRACES_SAMPLER") or PARENT_BASED + SAMPLERS[0]
    parent, kind = name.startswith(PARENT_BASED), name.removeprefix(PARENT_BASED)
    if kind not in SAMPLERS:
        complaints.append(f"OTEL_TRACES_SAMPLER is {name!r}, which is not known: all is recorded")
        parent, kind = True, SAMPLERS[0]
    ratio = {"always_on": 1.0, "always_off": 0.0}.get(kind)
    if ratio is None:
        text = environment.get("OTEL_TRACES_SAMPLER_ARG") or "1"
        try:
            ratio = float(text)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            complaints.append(f"OTEL_TRACES_SAMPLER_ARG is {text!r}, not a number from 0 to 1")
            ratio = 1.0
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return Sampling(not disabled, 0.0 if disabled else ratio, parent, tuple(complaints))


class Export(Struct, frozen=True):
    """Where spans are sent, and with what."""

    url: str
    headers: dict[str, str]
    timeout_s: float
    namespace: str
    attributes: dict[str, str]
    complaints: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether anything can be sent there."""
        parts = urlsplit(self.url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}{parts.path}"


def export(environment: Mapping[str, str]) -> Export | None:
    """What the variables say of sending; None when nothing is to be sent."""

    def said(name: str) -> str:
        return environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environment.get(
            f"OTEL_EXPORTER_OTLP_{name}", ""
        )

    url = said("ENDPOINT").strip()
    if (
        not url
        or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER", "") == "none"
    ):
        return None
    complaints: list[str] = []
    if not environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        url = url.rstrip("/") + TRACES_PATH
    protocol = said("PROTOCOL")
    if protocol not in {"", "http/json"}:
        complaints.append(f"OTLP is spoken as http/json, not as {protocol}")
    timeout = said("TIMEOUT") or str(TIMEOUT_MS)
    timeout_ms = int(timeout) if timeout.isdecimal() and int(timeout) else TIMEOUT_MS
    if str(timeout_ms) != timeout:
        complaints.append(f"OTEL_EXPORTER_OTLP_TIMEOUT is {timeout!r}, not whole milliseconds")
    found = Export(
        url,
        _pairs(said("HEADERS")),
        timeout_ms / 1000,
        environment.get("OTEL_SERVICE_NAME") or environment.get("MESH_PROJECT", ""),
        _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", "")),
    )
    if not found.usable:
        complaints.append("the OTLP endpoint is no http:// or https:// address")
    return codec.replace(found, complaints=tuple(complaints))


def _pairs(text: str) -> dict[str, str]:
    """`name=value,…` with percent-encoded values; what is no pair is passed over."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            found[unquote(name.strip())] = unquote(value.strip())
    return found
