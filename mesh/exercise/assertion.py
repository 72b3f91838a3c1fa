"""What a run must reach: `p99<200ms`, `failed==0`, `order.create.p90<=50ms`, `goodput>=95`. Pure."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.configs.complaints import suggestion
from mesh.errors import WrongUsage
from mesh.exercise.tally import QUANTILES, quantiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mesh.exercise.tally import Counts, Tally

_FORM = re.compile(
    r"\s*([A-Za-z0-9_.%-]+?)\s*(<=|>=|==|<|>)\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|%|/s)?\s*"
)

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}

_UNITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(QUANTILES, ("ms", "s")),
    "error%": ("%", ""),
    "failed": ("",),
    "unknown": ("",),
    "goodput": ("/s", ""),
}
"""Metric → the units it may be given in."""

HINT = "for example: --assert 'p99<200ms' --assert 'failed==0' --assert 'order.create.p90<50ms'"


class Assertion(Struct, frozen=True):
    """One expectation; `operation` None: of all together. Times in milliseconds."""

    text: str
    operation: str | None
    metric: str
    sign: str
    bound: float


class Held(Struct, frozen=True):
    """An expectation, what was found in the metric's unit, and whether that is as expected."""

    text: str
    found: float | None
    ok: bool
    unit: str = ""

    @property
    def shown(self) -> str:
        """What was found, in words."""
        if self.found is None:
            return "nothing was measured"
        return f"found {self.found:g}{' ' if self.unit == 'ms' else ''}{self.unit}"


def parse(text: str) -> Assertion:
    """An expectation as it is typed.

    Raises: WrongUsage (no such form, metric or unit), with a suggestion.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise WrongUsage(f"`{text}` is no assertion: METRIC<NUMBER is one", hint=HINT)
    name, sign, number, unit = match.groups()
    if name.endswith("p99.9"):  # as reports write it
        name = name.removesuffix("99.9") + "999"
    operation, _, metric = name.rpartition(".")
    if metric not in _UNITS:
        raise WrongUsage(
            f"`{metric}` in `{text}` is no metric{suggestion(metric, list(_UNITS))}",
            hint=f"there are: {', '.join(_UNITS)}",
        )
    unit = unit or ""
    if unit not in _UNITS[metric]:
        units = " or ".join(each or "no unit" for each in _UNITS[metric])
        raise WrongUsage(f"{metric} in `{text}` is given in {units}", hint=HINT)
    bound = float(number) * (1000 if unit == "s" else 1)
    return Assertion(text.strip(), operation or None, metric, sign, bound)


def check(assertion: Assertion, operations: Iterable[str]) -> None:
    """Refuse an operation that nobody serves. Raises: WrongUsage, with a suggestion."""
    name, known = assertion.operation, sorted(operations)
    if name is not None and name not in known:
        raise WrongUsage(
            f"`{name}` in `{assertion.text}` is no operation here{suggestion(name, known)}",
            hint="mesh call lists the services, mesh call SVC its operations",
        )


def judge(assertion: Assertion, tally: Tally, duration_s: float) -> Held:
    """Whether it holds of a run; of nothing at all, no latency is as expected."""
    counts = tally.of(assertion.operation) if assertion.operation else tally.all()
    found = _metric(assertion.metric, counts, duration_s)
    if assertion.operation is None and assertion.metric in {"failed", "error%"}:
        found = (found or 0.0) + (tally.turned_away if assertion.metric == "failed" else 0)
    ok = found is not None and _COMPARE[assertion.sign](found, assertion.bound)
    return Held(assertion.text, found, ok, _UNITS[assertion.metric][0])


def _metric(metric: str, counts: Counts, duration_s: float) -> float | None:
    if metric in QUANTILES:
        return quantiles(counts.latencies.intended)[metric]
    if metric == "error%":
        wrong = counts.failed + counts.unknown
        return round(100 * wrong / counts.total, 3) if counts.total else None
    if metric == "goodput":
        return round((counts.ok + counts.refused) / duration_s, 2) if duration_s else None
    return float(counts.failed if metric == "failed" else counts.unknown)
