"""The two-service order as one writes it by hand with nothing else in mind.

    python benchmarks/byhand.py order|product PORT PEER_PORT DIRECTORY

aiohttp on uvloop, msgspec, SQLite with `synchronous=FULL`. What is asked for during one turn of
the event loop is committed together. Order asks product over HTTP, then writes the order and an
outbox row in one commit. There is no identity, no deadline, no retry, no idempotency key, no
trace, no relay of the outbox, and an order whose answer is lost is lost.
"""

import asyncio
import itertools
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import uvloop
from aiohttp import web

JSON = {"Content-Type": "application/json"}
STOCK = 10**12
SCHEMAS = {
    "product": """
        CREATE TABLE products (id TEXT PRIMARY KEY, stock INTEGER NOT NULL, price INTEGER NOT NULL);
        CREATE TABLE holds (order_id TEXT PRIMARY KEY, body BLOB NOT NULL);
        INSERT INTO products VALUES ('lamp', 1000000000000, 2490);
    """,
    "order": """
        CREATE TABLE orders (
            id TEXT PRIMARY KEY, user_id TEXT, status TEXT, total INTEGER, lines BLOB);
        CREATE TABLE outbox (seq INTEGER PRIMARY KEY, type TEXT, body BLOB);
    """,
}


class Line(msgspec.Struct):
    product_id: str
    quantity: int


class NewOrder(msgspec.Struct):
    user_id: str
    lines: list[Line]


class Hold(msgspec.Struct):
    order_id: str
    lines: list[Line]


class Held(msgspec.Struct):
    total: int


class Placed(msgspec.Struct):
    id: str
    status: str
    total: int


encode = msgspec.json.Encoder().encode
new_order = msgspec.json.Decoder(NewOrder).decode
hold_of = msgspec.json.Decoder(Hold).decode
held_of = msgspec.json.Decoder(Held).decode


class ShortError(Exception):
    pass


class Store:
    """One commit for everything that one turn of the event loop asked for."""

    def __init__(self, path: Path, schema: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.executescript(schema)
        self.waiting: list[tuple[asyncio.Future, Callable, tuple]] = []

    def write(self, work: Callable, *args: object) -> asyncio.Future:
        loop = asyncio.get_running_loop()
        if not self.waiting:
            loop.call_soon(self.flush)
        answer = loop.create_future()
        self.waiting.append((answer, work, args))
        return answer

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, []
        execute = self.connection.execute
        results: list[tuple[asyncio.Future, object, Exception | None]] = []
        execute("BEGIN IMMEDIATE")
        for answer, work, args in waiting:
            execute("SAVEPOINT one")
            try:
                results.append((answer, work(execute, *args), None))
            except Exception as error:  # noqa: BLE001  every kind is answered to its own caller
                execute("ROLLBACK TO one")
                results.append((answer, None, error))
            execute("RELEASE one")
        execute("COMMIT")
        for answer, result, error in results:
            if answer.done():
                continue
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)


def take(execute: Callable, hold: Hold) -> int:
    total = 0
    for line in hold.lines:
        row = execute(
            "UPDATE products SET stock = stock - ? WHERE id = ? AND stock >= ? RETURNING price",
            (line.quantity, line.product_id, line.quantity),
        ).fetchone()
        if row is None:
            raise ShortError
        total += row[0] * line.quantity
    execute("INSERT INTO holds VALUES (?, ?)", (hold.order_id, encode(hold.lines)))
    return total


def place(execute: Callable, order_id: str, order: NewOrder, total: int) -> None:
    lines = encode(order.lines)
    execute(
        "INSERT INTO orders VALUES (?, ?, 'reserved', ?, ?)",
        (order_id, order.user_id, total, lines),
    )
    execute("INSERT INTO outbox (type, body) VALUES ('order.created', ?)", (lines,))


async def product(port: int, store: Store) -> None:
    async def hold(request: web.Request) -> web.Response:
        try:
            total = await store.write(take, hold_of(await request.read()))
        except ShortError:
            return web.Response(status=409)
        return web.Response(body=encode(Held(total)), headers=JSON)

    await serve(port, "/holds", hold)


async def order(port: int, peer: int, store: Store) -> None:
    numbers = itertools.count(1)
    stem = os.urandom(4).hex()
    url = f"http://127.0.0.1:{peer}/holds"
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=128))

    async def create(request: web.Request) -> web.Response:
        wanted = new_order(await request.read())
        order_id = f"{stem}-{next(numbers)}"
        body = encode(Hold(order_id, wanted.lines))
        async with session.post(url, data=body, headers=JSON) as answer:
            if answer.status != 200:
                return web.Response(status=409)
            total = held_of(await answer.read()).total
        await store.write(place, order_id, wanted, total)
        return web.Response(
            status=201, body=encode(Placed(order_id, "reserved", total)), headers=JSON
        )

    await serve(port, "/orders", create)


async def serve(port: int, path: str, handler: Callable) -> None:
    app = web.Application()
    app.router.add_post(path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


async def main() -> None:
    role, port, peer, directory = sys.argv[1:5]
    store = Store(Path(directory) / f"{role}.db", SCHEMAS[role])
    if role == "product":
        await product(int(port), store)
    else:
        await order(int(port), int(peer), store)


if __name__ == "__main__":
    uvloop.run(main())
