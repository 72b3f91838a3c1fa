"""A run as it is told afterwards, and in a line while it goes on. Pure: values in, lines out.

A line is a sequence of parts, text or text with a style, as the command line draws them. Nothing is
told by colour alone.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesh.exercise.axis import LABEL, Line, Part, label, ms, over_time, spark
from mesh.exercise.tally import QUANTILES, Tally, percentile, quantiles
from mesh.text import folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.exercise.assertion import Held
    from mesh.exercise.chaos import Inflicted
    from mesh.exercise.checker import Judgement
    from mesh.exercise.verify import Check

BAR = "█"
PARTS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
"""Eighths of a cell."""

WIDTH_MAX = 120
ERRORS_MAX = 12
"""Kinds of errors that are listed; the others are counted together."""

NAMED_MAX = 10
"""Contradictions that are listed; the evidence has all."""

NOTHING_ASKED = "none was made, and so nothing is shown"

INDENT = " " * 9

EDGES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Of the histogram: 1-2-5, as a ruler has it."""

PARTED = 1.2
"""From this ratio on both latencies are shown: the one from the intended moment and the other."""


@dataclass
class Run:
    """Everything there is to tell of a run; what was not done, as yet or at all, is None."""

    what: str
    seed: int
    rate: float
    duration_s: float
    tally: Tally
    took_s: float = 0.0
    cpu_percent: float = 0.0
    interrupted: bool = False
    faults: Sequence[Inflicted] = ()
    asserted: Sequence[Held] = ()
    healed: str | None = None
    not_healed: str | None = None
    not_judged: str | None = None
    judgement: Judgement | None = None
    checks: Sequence[Check] = ()
    repeat: str = ""
    evidence: str | None = None
    notes: list[str] = field(default_factory=list)
    befell: Sequence[str] = ()
    """What happened to programs while requests were lost in a run that broke nothing."""

    @property
    def ok(self) -> bool:
        """The verdict."""
        judged = self.judgement is None or self.judgement.ok
        kept = all(check.ok for check in self.checks) and all(each.ok for each in self.asserted)
        whole = self.not_healed is None and self.not_judged is None
        return judged and kept and whole and self.lost == 0 and not self.idle

    @property
    def idle(self) -> bool:
        """Whether nothing was asked at all, which shows nothing."""
        return not any(counts.total for counts in self.tally.operations.values())

    @property
    def judged_well(self) -> bool:
        """Whether it was judged, and neither history nor databases contradict."""
        judged = self.judgement is not None and self.judgement.ok
        return judged and bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def made(self) -> int:
        """Faults that were carried out."""
        return sum(each.refused is None for each in self.faults)

    @property
    def bound(self) -> float | None:
        """The rule of three: where none of N did harm, at most 3/N of them do, at 95 %; percent.

        None where nothing was broken, or something did harm.
        """
        return min(100.0, 300 / self.made) if self.judged_well and self.made else None

    @property
    def lost(self) -> int:
        """Requests that failed although nothing was broken on purpose."""
        if self.faults:
            return 0
        counts = self.tally.all()
        return counts.failed + counts.unknown + self.tally.turned_away


def live(tally: Tally, at_s: float, duration_s: float, inside: int, last: str) -> list[Line]:
    """Two lines while it goes on, and a third for the fault that was made last."""
    counts = tally.all(operations=())
    good = sum(each.ok + each.refused for each in tally.operations.values())
    bad = sum(each.failed + each.unknown for each in tally.operations.values())
    counts.ok = good
    ordered = array("f", sorted(tally.recent))
    shown = "  ".join(
        f"{name} {ms(percentile(ordered, QUANTILES[name]))}" for name in ("p50", "p99")
    )
    recent = [second.good for second in tally.seconds[-31:]]
    whole = recent[:-1] or recent  # the present second has only begun
    first: Line = [
        f"{min(at_s, duration_s):4.0f} of {duration_s:.0f} s  ",
        (spark(whole, len(whole)), "cyan"),
        f"  {whole[-1] if whole else 0}/s",
    ]
    second: Line = [
        f"{good:,} answered  ",
        (f"{bad:,} failed", "bad" if bad else "faint"),
        f"  {shown} ms  visitors inside {inside}",
    ]
    broken: Line = [("broken last: ", "faint"), (last, "warn")]
    return [first, second, broken] if last else [first, second]


def lines(run: Run, width: int) -> list[Line]:
    """The whole report, in at most `width` cells but for what is to be copied."""
    width = min(width, WIDTH_MAX)
    found: list[Line] = [
        *_head(run),
        [],
        *_operations(run.tally, width),
        [],
        *_histogram(run.tally, width),
        [],
        *over_time(run.tally.seconds, run.took_s, run.faults, width),
        *_errors(run),
        [],
        *_verdict(run),
    ]
    return [piece for line in found for piece in folded(line, width)] + _ending(run)


def _head(run: Run) -> list[Line]:
    tally, counts = run.tally, run.tally.all()
    found = quantiles(counts.latencies.intended)
    sent = quantiles(counts.latencies.sent)
    rate = counts.total / run.took_s if run.took_s else 0.0
    head: list[Line] = [
        [
            (f"{run.what}", "strong"),
            f"  {run.rate:g} visitors/s for {run.took_s:.1f} s  seed {run.seed}",
        ],
        [
            label("requests"),
            f"{counts.total:,} ({rate:.0f}/s)  {counts.ok:,} ok  {counts.refused:,} refused  ",
            (f"{counts.failed:,} failed", "bad" if counts.failed else "faint"),
            "  ",
            (f"{counts.unknown:,} unknown", "bad" if counts.unknown else "faint"),
        ],
        [label("visitors"), f"{tally.visits:,}", _turned_away(tally), _unfinished(tally)],
        [label("latency"), _quantiles(found), "  from when due"],
    ]
    if (found["p99"] or 0) > PARTED * (sent["p99"] or 0):
        head.append([label(""), _quantiles(sent), "  from when sent"])
    head.append([label("generator"), f"{run.cpu_percent:.0f} % of a core"])
    return head


def _turned_away(tally: Tally) -> Part:
    return (f"  {tally.turned_away:,} turned away", "bad") if tally.turned_away else ""


def _unfinished(tally: Tally) -> Part:
    return (f"  {tally.unfinished:,} did not end", "bad") if tally.unfinished else ""


def _quantiles(found: dict[str, float | None]) -> str:
    return "  ".join(f"{name.replace('999', '99.9')} {ms(found[name])}" for name in found) + " ms"


def _operations(tally: Tally, width: int) -> list[Line]:
    wide = max((len(name) for name in tally.operations), default=9)
    heads = ["ok", "refused", "failed", "unknown", "again", "p50", "p99", "max"]
    everything, less = tally.all(), ("refused", "unknown", "failed")
    nothing = [name for name in less if not getattr(everything, name)]
    for name in ("again", *nothing, "max", "p50", *less):  # where a window is narrow
        if name in heads and wide + 8 * len(heads) > width:
            heads.remove(name)
    found: list[Line] = [
        [(f"{'operation':<{wide}}" + "".join(f"{name:>8}" for name in heads), "strong")]
    ]
    for name, counts in sorted(tally.operations.items()):
        measured = quantiles(counts.latencies.intended)
        line: Line = [f"{name:<{wide}}"]
        for head in heads:
            if head in QUANTILES:
                line.append(f"{ms(measured[head]):>8}")
                continue
            count: int = getattr(counts, head)
            bad = head in {"failed", "unknown"} and count > 0
            line.append((f"{count:>8,}", "bad") if bad else f"{count:>8,}")
        found.append(line)
    return found


def _histogram(tally: Tally, width: int) -> list[Line]:
    """All answers by latency, between the first and the last bar that has any."""
    values = tally.all().latencies.intended
    if not values:
        return [[("no answers", "faint")]]
    counts = [0] * (len(EDGES_MS) + 1)
    for value in values:
        counts[sum(value >= edge for edge in EDGES_MS)] += 1
    filled = [place for place, count in enumerate(counts) if count]
    most, room = max(counts), width - LABEL - 20
    found: list[Line] = [[("latency of all answers, ms", "strong")]]
    for place in range(filled[0], filled[-1] + 1):
        count, share = counts[place], counts[place] / len(values)
        found.append(
            [
                (f"{_span(place):>{LABEL}}  ", "faint"),
                (_bar(count / most, room), "cyan"),
                f" {count:,}",
                (f" {100 * share:.1f} %", "faint"),
            ]
        )
    return found


def _span(place: int) -> str:
    if place == 0:
        return f"< {EDGES_MS[0]}"
    if place == len(EDGES_MS):
        return f"≥ {EDGES_MS[-1]}"
    return f"{EDGES_MS[place - 1]} to {EDGES_MS[place]}"


def _bar(share: float, room: int) -> str:
    eighths = max(1, round(share * room * 8)) if share else 0
    return BAR * (eighths // 8) + PARTS[eighths % 8]


def _errors(run: Run) -> list[Line]:
    kinds = run.tally.kinds.most_common()
    if not kinds:
        return []
    found: list[Line] = [[], [("what was not answered as asked, each try counted", "strong")]]
    wide = max(len(operation) for (operation, _), _ in kinds[:ERRORS_MAX])
    for (operation, kind), count in kinds[:ERRORS_MAX]:
        found.append([f"{count:>8,}  {operation:<{wide}}  {kind}"])
    rest = sum(count for _, count in kinds[ERRORS_MAX:])
    if rest:
        found.append([f"{rest:>8,}  of other kinds"])
    return found


def _mark(ok: bool) -> Part:  # noqa: FBT001  it is the whole question
    return ("✓ ok     ", "good") if ok else ("✗ wrong  ", "bad")


def _verdict(run: Run) -> list[Line]:
    word: Part = ("ok", "good") if run.ok else ("wrong", "bad")
    if run.interrupted:
        word = ("none", "warn")
    found: list[Line] = [[("verdict ", "strong"), word]]
    found += [[_mark(ok=False), text] for text in _unjudged(run)]
    found += [[f"{INDENT}          {text}"] for text in run.befell]
    if run.healed is not None or run.not_healed is not None:
        found.append([_mark(run.not_healed is None), f"healing   {run.not_healed or run.healed}"])
    if run.judgement is not None:
        found += _judged(run.judgement)
    if run.checks:
        found += _promises(run.checks)
    if run.bound is not None:
        text = (
            f"bound     0 of {run.made:,} fault{'' if run.made == 1 else 's'} did harm:"
            f" at most {float(f'{run.bound:.2g}'):g} % do, with 95 % confidence"
        )
        found.append([_mark(ok=True), text])
    for each in run.asserted:
        found.append([_mark(each.ok), f"asserted  {each.text}  {each.shown}"])
    found += [[INDENT, (note, "faint")] for note in run.notes]
    if run.interrupted:
        found.append([("interrupted: what was done until then is not judged", "warn")])
    return found


def _unjudged(run: Run) -> list[str]:
    """What is wrong with a run whatever its history and the databases say."""
    found = []
    if run.lost:
        told = "while this happened:" if run.befell else "and nothing was broken"
        found.append(f"requests  {run.lost:,} lost, {told}")
    if run.idle and not run.interrupted:
        found.append(f"requests  {NOTHING_ASKED}")
    if run.not_judged is not None:
        found.append(f"promises  {run.not_judged}")
    return found


def _judged(judged: Judgement) -> list[Line]:
    text = f"history   {judged.judged:,} entries judged, {len(judged.wrong)} contradict"
    found: list[Line] = [[_mark(judged.ok), text]]
    if judged.unknown:
        happened = f"{judged.happened} happened, {judged.not_happened} did not"
        found.append([f"{INDENT}          of {judged.unknown} unknown {happened}"])
    found.extend(
        [INDENT, (each.rule, "strong"), f" {each.id} {each.detail}"]
        for each in judged.wrong[:NAMED_MAX]
    )
    return found


def _promises(checks: Sequence[Check]) -> list[Line]:
    wrong = [check for check in checks if not check.ok]
    text = f"promises  {len(checks) - len(wrong)} of {len(checks)} hold"
    found: list[Line] = [[_mark(not wrong), text]]
    for check in wrong:
        found.append([INDENT, (check.name, "strong"), f" {check.service}: {check.sentence}"])
        found.extend([f"{INDENT}  {each.id} {each.detail}"] for each in check.violations[:3])
    return found


def _ending(run: Run) -> list[Line]:
    """A folder and a command, each whole."""
    found: list[Line] = []
    if run.evidence is not None:
        found.append([label("evidence"), run.evidence])
    if not run.ok or run.interrupted:
        found.append([label("again"), run.repeat])
    return found
