"""Spans put together by trace: what is told of each, and the latest, slowest or failed of them.

Bounded, so that a screen may stay open for days: the story that was added to longest ago goes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.tracing.span import ATTRIBUTES, Span

if TYPE_CHECKING:
    from collections.abc import Iterable

STORIES_MAX = 2_000
SPANS_MAX = 1_000
"""Of one story; an ordinary one has twenty."""

_ATTEMPT = {
    kind: names.index("attempt") for kind, names in ATTRIBUTES.items() if "attempt" in names
}


class Summary(Struct, frozen=True, kw_only=True):
    """One story in a line. `duration_us` is what the one who asked has waited; `whole_us` all of it.

    Attributes:
        root: name of its first step.
        service: that began it.
        services: all that took part, in the order in which they did.
        error: what failed first, or "".
        retries: attempts beyond a first one.
    """

    trace_id: str
    root: str
    service: str
    services: tuple[str, ...]
    start_us: int
    duration_us: int
    whole_us: int
    spans: int
    error: str
    retries: int


class Stories:
    """Takes spans, in any order, as they are read.

    Attributes:
        dropped: spans beyond the bounds.
    """

    def __init__(self, *, stories_max: int = STORIES_MAX, spans_max: int | None = None) -> None:
        """None yet. `spans_max` is of all of them together; None for no bound of that kind."""
        self.dropped = 0
        self._most = stories_max
        self._spans_max = spans_max
        self._spans = 0
        self._stories: OrderedDict[str, list[Span]] = OrderedDict()
        self._summaries: dict[str, Summary] = {}

    def take(self, spans: Iterable[Span]) -> None:
        """Add what was recorded."""
        stories = self._stories
        for span in spans:
            story = stories.get(span.trace_id)
            if story is None:
                story = stories[span.trace_id] = []
                if len(stories) > self._most:
                    self._forget_oldest()
            elif len(story) >= SPANS_MAX:
                self.dropped += 1
                continue
            else:
                stories.move_to_end(span.trace_id)
            story.append(span)
            self._spans += 1
            self._summaries.pop(span.trace_id, None)
            while (
                self._spans_max is not None and self._spans > self._spans_max and len(stories) > 1
            ):
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        gone, lost = self._stories.popitem(last=False)
        self._summaries.pop(gone, None)
        self._spans -= len(lost)
        self.dropped += len(lost)

    def spans(self, trace_id: str) -> list[Span]:
        """Of one story, by their start; none if it is not known."""
        return sorted(self._stories.get(trace_id, ()), key=_by_start)

    def named(self, prefix: str) -> list[str]:
        """The ids that begin so."""
        return [trace_id for trace_id in self._stories if trace_id.startswith(prefix)]

    def summaries(self) -> list[Summary]:
        """Of every story, the latest begun first."""
        for trace_id, spans in self._stories.items():
            if trace_id not in self._summaries:
                self._summaries[trace_id] = summary(spans)
        return sorted(self._summaries.values(), key=lambda each: -each.start_us)


def summary(spans: Iterable[Span]) -> Summary:
    """What is told of one story; there is at least one span."""
    ordered = sorted(spans, key=_by_start)
    known = {span.span_id for span in ordered}
    root = next((span for span in ordered if span.parent_id not in known), ordered[0])
    failed = [span.status for span in ordered if span.status]
    return Summary(
        trace_id=root.trace_id,
        root=root.name,
        service=root.service,
        services=tuple(dict.fromkeys(span.service for span in ordered)),
        start_us=ordered[0].start_us,
        duration_us=max(0, root.duration_us),
        whole_us=max(span.end_us for span in ordered) - ordered[0].start_us,
        spans=len(ordered),
        error=failed[0] if failed else "",
        retries=sum(attempt(span) > 1 for span in ordered),
    )


def attempt(span: Span) -> int:
    """Which try this is, from 1; 1 where nothing is ever tried again."""
    place = _ATTEMPT.get(span.kind)
    found = span.values[place] if place is not None and place < len(span.values) else 1
    return found if isinstance(found, int) else 1


def _by_start(span: Span) -> tuple[int, int]:
    return span.start_us, -span.duration_us
