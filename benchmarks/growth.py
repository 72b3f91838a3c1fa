"""The shop with more and more behind it: 10³ to 10⁶ orders that are over.

    python benchmarks/growth.py [--orders 1000,10000,100000,1000000]

They are written into order's own file while nothing runs, each with its line and its address, all
of one customer, who then places and lists orders. Clients are closed loops beside the services.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import psutil  # noqa: E402  after the path
from orders import contender, trial  # noqa: E402  likewise

from tests.support.running import LAMP, tough_shop  # noqa: E402  likewise

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.running import RunningMesh

CLIENTS = 16
SECONDS = 3.0
READS = 200


def fill(file: Path, user: str, orders: int) -> None:
    """Years of business of one customer, all of it over."""
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO orders (id, user_id, status, reason, on_shortage, created_ms, version,"
            " name, line1, city, postcode, country)"
            " SELECT printf('ord_00000000-0000-7000-9000-%012d', i), ?, 'cancelled', '',"
            " 'backorder', 0, 1, 'Alice', '1 Street', 'Hamburg', '1', 'DE' FROM n",
            (orders, user),
        )
        filled = "FROM orders WHERE id LIKE 'ord_00000000-0000-7000-9000-%'"
        connection.execute(
            f"INSERT INTO lines (order_id, n, product_id, quantity) SELECT id, 1, ?, 1 {filled}",
            (LAMP,),
        )
    connection.close()


def p50_ms(ask: Callable[[], object]) -> float:
    took = []
    for _ in range(READS):
        begun = time.perf_counter()
        ask()
        took.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took)


def measure(mesh: RunningMesh, orders: int) -> None:
    user = mesh.ask("user", "GET", "/users/me", token=mesh.login("alice")).body["id"]
    mesh.down()
    file = mesh.directory / "data" / "order" / "order.db"
    fill(file, user, orders)
    begun = time.perf_counter()
    mesh.up()
    ready_s = time.perf_counter() - begun
    token = mesh.login("alice")
    taken = trial(contender(mesh), CLIENTS, SECONDS)
    listed = p50_ms(lambda: mesh.ask("order", "GET", "/orders?page_size=20", token=token))
    shown = p50_ms(
        lambda: mesh.ask(
            "order", "GET", "/orders/ord_00000000-0000-7000-9000-000000000500", token=token
        )
    )
    pss = psutil.Process(int(mesh.services()["order"]["pid"])).memory_full_info().pss / 2**20
    print(
        f"{orders:>10,}{ready_s:>10.2f}{taken['rate']:>12.0f}{taken['p50_ms']:>9.1f}"
        f"{listed:>11.2f}{shown:>10.2f}{pss:>14.1f}{file.stat().st_size / 2**20:>12.0f}",
        flush=True,
    )


def grow(sizes: list[int]) -> None:
    print(
        f"{'orders':>10}{'ready s':>10}{'orders/s':>12}{'p50 ms':>9}{'list ms':>11}{'get ms':>10}"
        f"{'order PSS MiB':>14}{'file MiB':>12}"
    )
    for orders in sizes:
        with tempfile.TemporaryDirectory() as folder:
            mesh = tough_shop(Path(folder)).up()
            try:
                measure(mesh, orders)
            finally:
                mesh.down()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", default="1000,10000,100000,1000000")
    chosen = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    grow([int(each) for each in chosen.orders.split(",")])


if __name__ == "__main__":
    main()
