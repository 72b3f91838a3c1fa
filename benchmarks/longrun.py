"""Kills by the hundred: `mesh exercise` in legs over one shop, until so many programs were killed.

Each leg is loaded, killed, healed and judged over everything that was ever stored. The first one
that finds a promise broken ends the run and leaves its evidence; Ctrl-C ends it with what is known.
Of 11 kills 8 hit a service, 2 the bus and 1 the supervisor.

    python benchmarks/longrun.py --kills 1100 --rate 125 --every 0.8
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.running import RunningMesh, tough_shop  # noqa: E402  after the path

PATIENCE_S = 420.0
"""Beyond a leg's own time: until everybody is answered, everything at rest, all of it judged."""

ORDERS = "order.create"
RUNNING = "409 request-running"
"""What a visitor is told who asks again while he is being answered."""

STOCK = {"C2", "C3"}
EVENTS = {"C4", "C5", "events-accounted-for", "events-chained", "log-as-told"}
"""What a broken rule means: units oversold, events lost or applied twice; else an order lost."""


class Count:
    """What all legs came to."""

    def __init__(self) -> None:
        self.kills: Counter[str] = Counter()
        self.missed = 0
        self.up_s: list[float] = []
        self.load_s = 0.0
        self.asked = self.accepted = 0
        self.wrong: Counter[str] = Counter()
        self.deliveries = self.promises = self.judged = 0
        self.unknown: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.kills.values())

    def add(self, leg: dict) -> None:
        for each in leg["faults"]:
            if each["refused"] is not None:
                self.missed += 1
                continue
            self.kills[each["fault"]["target"]] += 1
            if each["fault"]["target"] == "supervisor":
                self.up_s.append(each["took_s"])
        self.load_s += leg["duration_s"]
        orders = leg["operations"].get(ORDERS, {})
        self.asked += sum(orders.get(name, 0) for name in ("ok", "refused", "failed", "unknown"))
        self.accepted += orders.get("ok", 0)
        for each in leg["errors"]:
            if each["kind"].startswith("4") and each["kind"] != RUNNING:
                self.refusals[f"{each['operation']} {each['kind']}"] += each["count"]
        history, verify = leg["history"], leg["verify"]
        self.judged += history["judged"]
        for name in ("unknown", "happened", "not_happened"):
            self.unknown[name] += history[name]
        for each in history["wrong"]:
            self.wrong[_class(each["rule"])] += 1
        for each in verify["checks"]:
            if not each["ok"]:
                self.wrong[_class(each["name"], each["service"])] += (
                    len(each["violations"]) + each["more"]
                )
        accounted = [each for each in verify["checks"] if each["name"] == "events-accounted-for"]
        self.deliveries = sum(each["checked"] for each in accounted)
        self.promises = len(verify["checks"])

    def lines(self) -> list[str]:
        by = "  ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        up = sorted(self.up_s) or [0.0]
        worth = (
            f"0 of {self.total:,} means: at most {300 / self.total:.2g} % of kills do harm, at 95 %"
        )
        return [
            f"{self.total:,} SIGKILLs in {self.load_s:.0f} s of load   {by}",
            (
                f"  {self.missed} more found nobody to kill; up again after a supervisor's:"
                f" median {up[len(up) // 2]:.1f} s, longest {up[-1]:.1f} s"
            ),
            (
                f"  orders asked {self.asked / self.load_s:.1f}/s,"
                f" accepted {self.accepted / self.load_s:.1f}/s, {self.accepted:,} in all"
            ),
            (
                f"  {self.judged:,} lines of history judged; of {self.unknown['unknown']:,} unknown ends"
                f" {self.unknown['happened']:,} happened, {self.unknown['not_happened']:,} did not"
            ),
            (
                f"  {self.promises} promises asked of all databases after each leg;"
                f" {self.deliveries:,} events accounted for with those who hear them"
            ),
            (
                f"  lost orders {self.wrong['orders']}, oversold units {self.wrong['stock']},"
                f" events lost or applied twice {self.wrong['events']}"
            ),
            "  noes that no scenario allows for, each try counted: "
            + (", ".join(f"{n} {what}" for what, n in self.refusals.most_common()) or "none"),
            f"  {'WRONG: see the evidence' if self.wrong.total() else worth}",
        ]


def _class(rule: str, service: str = "") -> str:
    if rule in EVENTS:
        return "events"
    return "stock" if rule in STOCK or service == "product" else "orders"


def leg(mesh: RunningMesh, args: argparse.Namespace, seed: int) -> tuple[dict, int]:
    process = mesh.start(
        *("exercise", "--rate", f"{args.rate:g}", "--duration", f"{args.leg:g}"),
        *("--chaos", f"kill:every={args.every:g}", "--seed", str(seed), "--json"),
    )
    try:
        out, err = process.communicate(timeout=args.leg + PATIENCE_S)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.communicate()
        raise
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise SystemExit(f"leg {seed} did not end; its data is in {mesh.directory}") from None
    lines = out.splitlines()
    if not lines:
        raise SystemExit(f"leg {seed} gave no report: {err[-3000:]}")
    if process.returncode:
        print(err[-3000:], flush=True)
    return json.loads(lines[-1]), process.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1100)
    parser.add_argument(
        "--rate", type=float, default=125.0, help="visitors/s; 0.4 of them get an order"
    )
    parser.add_argument("--every", type=float, default=0.8, help="seconds between two kills")
    parser.add_argument("--leg", type=float, default=300.0, help="seconds of load in a leg")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell had it ignored
    folder = tempfile.mkdtemp(prefix="mesh-longrun-")
    mesh, count, seed = tough_shop(Path(folder)), Count(), args.seed
    print(f"{folder}  {args}", flush=True)
    mesh.up()
    code = 0
    try:
        while count.total < args.kills and not code:
            found, code = leg(mesh, args, seed)
            if found["history"] is None:  # it was interrupted, and is not judged
                break
            count.add(found)
            load = os.getloadavg()[0]
            at = time.strftime("%H:%M:%S")
            print(
                f"{at}  leg of seed {seed}: {count.total} kills  {count.accepted:,} orders"
                f"  failed {found['failed']}  unknown {found['unknown']}"
                f"  p50 {found['latency_ms']['p50']:.0f} p99 {found['latency_ms']['p99']:.0f} ms"
                f"  generator {found['generator_cpu_percent']:.0f} %  load {load:.1f}"
                f"  {'ok' if not code else 'WRONG, evidence in ' + str(found['evidence'])}",
                flush=True,
            )
            seed += 1
    except KeyboardInterrupt:
        code = 130
    finally:
        mesh.down()
    if count.total:
        print("\n".join(count.lines()), flush=True)
    if not code:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
