"""`mesh exercise`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
from typing import TYPE_CHECKING

import click

from mesh import clock, codec
from mesh.commands import output
from mesh.commands.befell import befell
from mesh.commands.project import Project, check_names
from mesh.commands.verb import Number, Seconds, Whole, json_option, verb
from mesh.errors import AssertionFailed, Conflict, MeshError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesh.commands.trial import Trial, Wanted
    from mesh.exercise.report import Run

RATE = 20.0
RATE_MAX = 5000.0
DURATION_S = 20.0
DURATION_S_MAX = 24 * 3600.0

INTERRUPTED = 130

BEFELL_MAX = 8
"""Lines of what happened to programs; the first ones tell most."""


@contextlib.contextmanager
def _admitted(trial: Trial, *, alone: bool) -> Iterator[None]:
    """Be one of several runs that break nothing, or the only one: however we end.

    What one run breaks another would call lost, although nothing was broken on purpose; and each
    heals everything at its end.

    Raises: Conflict; nothing of the run is left then.
    """
    runs = os.open(trial.folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(runs, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            trial.forget()
            raise Conflict(
                "another `mesh exercise` is under way here, and one of the two breaks things",
                code="exercise-under-way",
                hint="try again when it has ended; without --chaos they go together",
            ) from None
        yield
    finally:
        os.close(runs)


def _ran(trial: Trial, wanted: Wanted, progress: output.Live) -> Run:
    """The run, not judged yet; one that could not be leaves nothing. Raises: as `Trial.run`."""
    try:
        return trial.run(wanted, progress)
    except MeshError:
        trial.let_go()
        trial.forget()
        raise


def _befell(project: Project, run: Run) -> list[str]:
    """What the supervisor noted of its programs since the run began: whoever broke something else."""
    begun_us = clock.now_ms() * 1000 - int(run.took_s * 1_000_000)
    found = [
        f"{(at_us - begun_us) / 1_000_000:5.1f} s  {program}: {what}"
        for at_us, program, what in befell(project.logs)
        if at_us >= begun_us
    ]
    more = len(found) - BEFELL_MAX
    return found[:BEFELL_MAX] + ([f"and {more} more: mesh logs"] if more > 0 else [])


def _summary(run: Run) -> dict[str, object]:
    """What `--json` prints."""
    from mesh.exercise.tally import quantiles  # noqa: PLC0415  (heavy beside it)

    counts = run.tally.all()
    return {
        "schema": "mesh.exercise/1",
        "seed": run.seed,
        "scenario": run.what,
        "offered": counts.total + run.tally.turned_away,
        "completed": counts.ok + counts.refused,
        "failed": counts.failed + run.tally.turned_away,
        "unknown": counts.unknown,
        "refused": counts.refused,
        "retried": counts.again,
        "visits": run.tally.visits,
        "turned_away": run.tally.turned_away,
        "unfinished": run.tally.unfinished,
        "rate": run.rate,
        "duration_s": round(run.took_s, 3),
        "latency_ms": quantiles(counts.latencies.intended),
        "latency_from_sending_ms": quantiles(counts.latencies.sent),
        "operations": {
            name: {
                "ok": each.ok,
                "refused": each.refused,
                "failed": each.failed,
                "unknown": each.unknown,
                "latency_ms": quantiles(each.latencies.intended),
            }
            for name, each in sorted(run.tally.operations.items())
        },
        "errors": [
            {"operation": operation, "kind": kind, "count": count}
            for (operation, kind), count in run.tally.kinds.most_common()
        ],
        "faults": codec.plain(list(run.faults)),
        "harmful_faults_percent_max": run.bound,
        "befell": list(run.befell),
        "healed": run.healed if run.not_healed is None else None,
        "history": None if run.judgement is None else codec.plain(run.judgement),
        "verify": None
        if not run.checks
        else {
            "ok": all(check.ok for check in run.checks),
            "checks": codec.plain(list(run.checks)),
        },
        "assertions": codec.plain(list(run.asserted)),
        "generator_cpu_percent": round(run.cpu_percent, 1),
        "interrupted": run.interrupted,
        "evidence": run.evidence,
        "ok": run.ok and not run.interrupted,
    }


def _repeat(
    ctx: click.Context, wanted: Wanted, paces: str, only: str, asserted: tuple[str, ...]
) -> str:
    """The command that does the same again."""
    from mesh.exercise.chaos import plain  # noqa: PLC0415  (heavy beside it)

    words = ["mesh"]
    root = ctx.find_root().params
    for option, name in (("-f", "file"), ("-p", "project_name"), ("--data-dir", "data_dir")):
        words += [option, str(root[name])] if root.get(name) else []
    words.append("exercise")
    words += [wanted.scenarios[0].name] if len(wanted.scenarios) == 1 else []
    words += ["--rate", plain(wanted.rate), "--duration", plain(wanted.duration_s)]
    words += ["--ramp", plain(wanted.ramp_s)] if wanted.ramp_s else []
    words += ["--seed", str(wanted.seed)]
    words += ["--chaos", paces] if paces else []
    words += ["--on", only] if only else []
    for each in asserted:
        words += ["--assert", each]
    return shlex.join(words)


def _ended(run: Run, trial: Trial) -> None:
    """Raises: AssertionFailed, saying what does not hold."""
    if run.ok:
        return
    from mesh.exercise.report import NOTHING_ASKED  # noqa: PLC0415  (heavy beside it)

    wrong = []
    if run.lost:
        told = "while this happened:" if run.befell else "and nothing was broken on purpose"
        wrong += [f"requests lost: {run.lost:,}, {told}", *run.befell]
    if run.idle:
        wrong.append(f"requests: {NOTHING_ASKED}")
    if run.not_healed:
        wrong.append(run.not_healed)
    if run.not_judged:
        wrong.append(f"not judged: {run.not_judged}")
    if run.judgement and run.judgement.wrong:
        first = run.judgement.wrong[0]
        wrong.append(f"{first.rule}: {first.id} {first.detail}")
    wrong += [
        f"{check.name} {check.service}: {check.violations[0].id}"
        for check in run.checks
        if not check.ok and check.violations
    ]
    what = "what was promised does not hold" if wrong else "what was asserted does not hold"
    what = "what was promised could not be judged" if run.not_judged else what
    wrong += [f"{each.text}: {each.shown}" for each in run.asserted if not each.ok]
    raise AssertionFailed(
        what,
        code="verdict",
        evidence=tuple(wrong),
        hint=f"the evidence is in {trial.folder}; again: {run.repeat}",
    )


@verb(
    "mesh exercise --rate 50 --duration 30 --seed 1",
    "mesh exercise buy --rate 20 --assert 'p99<200ms' --assert 'failed==0'",
    "mesh exercise --chaos kill,pause,drop --duration 60 --json",
    "mesh exercise --chaos kill:every=0.8 --duration 120",
)
@click.argument("scenario", required=False, metavar="[SCENARIO]")
@click.option(
    "--rate",
    type=Number(0.1, RATE_MAX),
    default=RATE,
    metavar="R",
    help=f"Visitors a second, on average ({RATE:g}).",
)
@click.option(
    "--duration",
    "duration_s",
    type=Seconds(0.5, DURATION_S_MAX),
    default=DURATION_S,
    metavar="S",
    help=f"For this many seconds ({DURATION_S:g}); `5m` too.",
)
@click.option(
    "--ramp",
    "ramp_s",
    type=Seconds(0, DURATION_S_MAX),
    default=0.0,
    metavar="S",
    help="Grow to the rate over the first seconds (0).",
)
@click.option("--seed", type=Whole(0), metavar="N", help="Draw the same again; else one is chosen.")
@click.option(
    "--chaos",
    "faults",
    default="",
    metavar="FAULT,…",
    help="Break things meanwhile: kill, pause, latency, error, drop, dup, reorder; kill:every=0.8 sets a pace.",
)
@click.option(
    "--on",
    "only",
    default="",
    metavar="SVC,…",
    help="Break only these: services, bus, supervisor.",
)
@click.option(
    "--assert",
    "asserted",
    multiple=True,
    metavar="EXPR",
    help="What must hold: 'p99<200ms', 'failed==0', 'order.create.p90<50ms', 'goodput>95'.",
)
@click.option("--keep", is_flag=True, help="Keep the evidence of a run that went well too.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    scenario: str | None,
    rate: float,
    duration_s: float,
    ramp_s: float,
    seed: int | None,
    faults: str,
    only: str,
    asserted: tuple[str, ...],
    keep: bool,
    as_json: bool,
) -> int:
    """Load the running mesh, break it on purpose, and judge whether anything was lost.

    Visitors come by a plan drawn from the seed, whether or not others were answered. Afterwards
    everything is healed, comes to rest, and the history of all answers is judged against the
    databases, with every promise of `mesh verify`. Exit code 7 when anything does not hold.
    Without a SCENARIO all of them come, each as often as its weight says; the shop's are browse,
    order, buy, fulfil, regret, look-back, restock, join and leave.
    """
    from mesh.commands import scenarios  # noqa: PLC0415  (heavy, as are the next)
    from mesh.commands.trial import Trial, Wanted  # noqa: PLC0415
    from mesh.exercise import assertion, chaos, report  # noqa: PLC0415

    paces = chaos.asked(faults)
    if only and not paces:
        raise WrongUsage(
            "--on says whom to break, and without --chaos nothing is broken",
            hint="--chaos kill,pause",
        )
    expected = [assertion.parse(each) for each in asserted]
    project = Project.of(ctx)
    who = scenarios.named(scenarios.known(project), scenario)
    trial = Trial(project)
    for each in expected:
        assertion.check(each, trial.routes)
    who = scenarios.served(who, trial.routes, project.config.services)
    number = clock.new_seed() if seed is None else seed
    targets = codec.replace(trial.targets, only=tuple(filter(None, only.split(","))))
    check_names(targets.only, targets.everybody, what="program")
    broken = chaos.schedule(paces, targets, duration_s=duration_s, seed=number)
    chaos.check(paces, targets, broken, duration_s)
    wanted = Wanted(who, rate, duration_s, min(ramp_s, duration_s), number, broken)
    with output.Live() as progress, _admitted(trial, alone=bool(paces)):
        run = _ran(trial, wanted, progress)
        if run.lost:
            run.befell = _befell(project, run)
        run.asserted = [assertion.judge(each, run.tally, run.took_s) for each in expected]
        run.repeat = _repeat(ctx, wanted, ",".join(map(str, paces)), only, asserted)
        if run.interrupted:
            run.notes.append(trial.let_go())
        else:
            trial.judge(run, progress)
    if keep or run.interrupted or not run.ok:
        run.evidence = str(trial.folder)
    summary = _summary(run)
    if run.evidence is None:
        trial.forget()
    else:
        trial.keep(run, wanted, summary)
    if as_json:
        output.json_line(summary)
    else:
        for line in report.lines(run, shutil.get_terminal_size().columns):
            output.out(*line)
    if run.interrupted:
        return INTERRUPTED
    _ended(run, trial)
    return 0
