"""The two-service order with FastStream over NATS and with Nameko over RabbitMQ.

    python benchmarks/frameworks.py faststream|nameko order|product DIRECTORY
    python benchmarks/frameworks.py faststream|nameko drive CLIENTS SECONDS

As their documentation begins: no outbox, no fsync a commit (`synchronous=NORMAL`). Runs in an
environment of its own, which `benchmarks/orders.py` makes. `drive` prints what
`benchmarks/driver.py` prints.
"""

import asyncio
import itertools
import json
import os
import resource
import sqlite3
import sys
import time
from pathlib import Path

NATS = "nats://127.0.0.1:4222"
RABBIT = "pyamqp://guest:guest@127.0.0.1:5672/"
NAMES = ("mesh-benchmark.order.create", "mesh-benchmark.product.hold")
WORKERS = 64
ANSWER_S = 20.0
ORDER = {"user_id": "alice", "lines": [{"product_id": "lamp", "quantity": 1}]}


def opened(directory: str, role: str) -> sqlite3.Connection:
    path = Path(directory) / f"{role}.db"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    if role == "product":
        connection.execute(
            "CREATE TABLE products (id TEXT PRIMARY KEY, stock INTEGER, price INTEGER)"
        )
        connection.execute("CREATE TABLE holds (order_id TEXT PRIMARY KEY)")
        connection.execute("INSERT INTO products VALUES ('lamp', 1000000000000, 2490)")
    else:
        connection.execute(
            "CREATE TABLE orders (id TEXT PRIMARY KEY, user_id TEXT, status TEXT, total INTEGER)"
        )
    return connection


def hold(connection: sqlite3.Connection, order_id: str, lines: list) -> int:
    total = 0
    connection.execute("BEGIN IMMEDIATE")
    for product_id, quantity in lines:
        row = connection.execute(
            "UPDATE products SET stock = stock - ? WHERE id = ? AND stock >= ? RETURNING price",
            (quantity, product_id, quantity),
        ).fetchone()
        total += row[0] * quantity
    connection.execute("INSERT INTO holds VALUES (?)", (order_id,))
    connection.execute("COMMIT")
    return total


def place(connection: sqlite3.Connection, order_id: str, user_id: str, total: int) -> None:
    connection.execute(
        "INSERT INTO orders VALUES (?, ?, 'reserved', ?)", (order_id, user_id, total)
    )


def figures(
    latencies: list[float], took: float, before: "resource.struct_rusage"
) -> dict[str, object]:
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = sorted(latencies)
    return {
        "rate": len(found) / took,
        "p50_ms": found[len(found) // 2] * 1e3,
        "p99_ms": found[min(len(found) - 1, len(found) * 99 // 100)] * 1e3,
        "cpu_ms": spent / len(found) * 1e3,
        "others": {},
    }


# FastStream


def faststream(role: str, directory: str) -> None:
    import uvloop
    from faststream import FastStream
    from faststream.nats import NatsBroker
    from pydantic import BaseModel

    class Line(BaseModel):
        product_id: str
        quantity: int

    class NewOrder(BaseModel):
        user_id: str
        lines: list[Line]

    class Hold(BaseModel):
        order_id: str
        lines: list[Line]

    class Held(BaseModel):
        total: int

    class Placed(BaseModel):
        id: str
        status: str
        total: int

    broker = NatsBroker(NATS, logger=None)
    database = opened(directory, role)
    numbers = itertools.count(1)
    stem = os.urandom(4).hex()

    if role == "product":

        @broker.subscriber(NAMES[1], max_workers=WORKERS)
        async def on_hold(message: Hold) -> Held:
            lines = [(line.product_id, line.quantity) for line in message.lines]
            return Held(total=hold(database, message.order_id, lines))
    else:

        @broker.subscriber(NAMES[0], max_workers=WORKERS)
        async def on_create(message: NewOrder) -> Placed:
            order_id = f"{stem}-{next(numbers)}"
            wanted = Hold(order_id=order_id, lines=message.lines)
            answer = await broker.request(wanted, NAMES[1], timeout=ANSWER_S)
            total = (await answer.decode())["total"]
            place(database, order_id, message.user_id, total)
            return Placed(id=order_id, status="reserved", total=total)

    uvloop.run(FastStream(broker, logger=None).run())


async def drive_faststream(clients: int, seconds: float) -> dict[str, object]:
    from faststream.nats import NatsBroker

    latencies: list[float] = []
    async with NatsBroker(NATS, logger=None) as broker:
        await broker.start()
        before = resource.getrusage(resource.RUSAGE_SELF)
        begun = time.perf_counter()

        async def client() -> None:
            while time.perf_counter() < begun + seconds:
                sent = time.perf_counter()
                answer = await broker.request(ORDER, NAMES[0], timeout=ANSWER_S)
                if (await answer.decode())["status"] != "reserved":
                    raise SystemExit("an order was not taken")
                latencies.append(time.perf_counter() - sent)

        await asyncio.gather(*(client() for _ in range(clients)))
        return figures(latencies, time.perf_counter() - begun, before)


# Nameko: its own runner, which patches sockets before anything else is imported


def nameko(role: str, directory: str) -> None:
    import eventlet

    eventlet.monkey_patch()
    from nameko.containers import ServiceContainer
    from nameko.rpc import RpcProxy, rpc

    database = opened(directory, role)
    numbers = itertools.count(1)
    stem = os.urandom(4).hex()

    class Product:
        name = "mesh_benchmark_product"

        @rpc
        def hold(self, order_id: str, lines: list) -> dict:
            return {"total": hold(database, order_id, lines)}

    class Order:
        name = "mesh_benchmark_order"
        product = RpcProxy("mesh_benchmark_product")

        @rpc
        def create(self, user_id: str, lines: list) -> dict:
            order_id = f"{stem}-{next(numbers)}"
            total = self.product.hold(order_id, lines)["total"]
            place(database, order_id, user_id, total)
            return {"id": order_id, "status": "reserved", "total": total}

    config = {"AMQP_URI": RABBIT, "max_workers": WORKERS}
    container = ServiceContainer(Product if role == "product" else Order, config)
    container.start()
    container.wait()


def drive_nameko(clients: int, seconds: float) -> dict[str, object]:
    from nameko.standalone.rpc import ClusterRpcProxy

    latencies: list[float] = []
    lines = [["lamp", 1]]
    with ClusterRpcProxy({"AMQP_URI": RABBIT}, timeout=ANSWER_S) as remote:
        before = resource.getrusage(resource.RUSAGE_SELF)
        begun = time.perf_counter()
        while time.perf_counter() < begun + seconds:
            sent = time.perf_counter()
            several = [
                remote.mesh_benchmark_order.create.call_async("alice", lines)
                for _ in range(clients)
            ]
            for one in several:
                one.result()
                latencies.append(time.perf_counter() - sent)
        return figures(latencies, time.perf_counter() - begun, before)


def main() -> None:
    framework, role, *rest = sys.argv[1:]
    if role != "drive":
        {"faststream": faststream, "nameko": nameko}[framework](role, rest[0])
        return
    clients, seconds = int(rest[0]), float(rest[1])
    if framework == "faststream":
        import uvloop

        found = uvloop.run(drive_faststream(clients, seconds))
    else:
        found = drive_nameko(clients, seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
