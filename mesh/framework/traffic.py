"""How a service asks and is asked, for who runs it: policies and what they do now, in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from mesh import clock, codec
from mesh.framework.connections import CONNECTIONS_MAX
from mesh.resilience.callee import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from mesh.client import Call, Client
    from mesh.framework.connections import Connections
    from mesh.framework.deferred import DeferredWork
    from mesh.framework.service import Service
    from mesh.resilience.admission import Admission
    from mesh.resilience.breaker import State


class Traffic(Collector):
    """Read when somebody asks; nothing is done for it meanwhile."""

    def __init__(
        self,
        service: Service,
        client: Client,
        admission: Admission,
        everybody: Connections,
        work: DeferredWork,
    ) -> None:
        """Of one running service."""
        self._service = service
        self._client = client
        self._admission = admission
        self._everybody = everybody
        self._work = work

    def told(self) -> dict[str, object]:
        """Each call of the service's table with its policy and figures; who is let in."""
        return {
            "asks": [
                {
                    "service": call.service,
                    "route": call.route,
                    "timeout_ms": round(call.policy.timeout_s * clock.MS_PER_S),
                    "retries_max": call.policy.retries_max,
                    "idempotent": call.idempotent,
                    "connections_max": call.policy.connections_max,
                    "breaker": self._state(call),
                }
                for call in self._service.asks
            ],
            "peers": codec.plain(self._client.figures()),
            "deferred": {"running": self._work.running, "held": sorted(self._work.held)},
            "admission": codec.plain(self._admission.figures()),
            "connections": {
                "open": self._everybody.count,
                "max": CONNECTIONS_MAX,
                "dropped": self._everybody.dropped,
            },
        }

    def _state(self, call: Call) -> State:  # type: ignore[type-arg]  # each has types of its own
        found = self._client.callee(call)
        return "closed" if found is None else found.state

    def collect(self) -> Iterator[Metric]:
        """The same for Prometheus; `mesh_breaker_state` is 0 closed, 1 half-open, 2 open."""
        counters = {
            name: CounterMetricFamily(f"mesh_ask_{name}", sentence, labels=["service"])
            for name, sentence in (
                ("calls", "Calls of another service"),
                ("errors", "Calls without an answer of use"),
                ("attempts", "Requests sent for them"),
                ("retries", "Requests sent again"),
                ("held_back", "Calls not made since the callee does not answer"),
            )
        }
        now = GaugeMetricFamily("mesh_ask_in_flight", "Calls under way", labels=["service"])
        state = GaugeMetricFamily(
            "mesh_breaker_state", "0 closed, 1 half-open, 2 open", labels=["service"]
        )
        for service, figures in self._client.figures().items():
            for name, family in counters.items():
                family.add_metric([service], getattr(figures, name))
            now.add_metric([service], figures.in_flight)
            state.add_metric([service], STATES.index(figures.state))
        yield from (*counters.values(), now, state)
        seen = self._admission.figures()
        yield CounterMetricFamily("mesh_admitted", "Requests let in", seen.admitted)
        yield CounterMetricFamily("mesh_shed", "Requests refused for want of room", seen.shed)
        yield GaugeMetricFamily("mesh_places", "Requests that may be at work", seen.places)
        yield GaugeMetricFamily("mesh_places_taken", "Requests at work", seen.taken)
        yield GaugeMetricFamily("mesh_waiting", "Requests that wait for a place", seen.waiting)
        yield GaugeMetricFamily(
            "mesh_event_loop_lag_seconds",
            "How late the event loop came round when last looked at",
            seen.lag_ms / clock.MS_PER_S,
        )
        yield GaugeMetricFamily(
            "mesh_deferred_held",
            "Deferred actions held back since what they ask does not answer",
            len(self._work.held),
        )
        yield GaugeMetricFamily("mesh_connections", "Clients connected", self._everybody.count)
        yield CounterMetricFamily(
            "mesh_connections_dropped", "Clients let go of", self._everybody.dropped
        )
