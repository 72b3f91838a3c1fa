"""Order and product under the interleavings that a seed thinks of, one step at a time.

Real actions, listeners, deferred work, inbox and outbox on real database files. What is simulated
is what lies between them: when each piece of work goes on, requests and answers that are lost,
late or doubled, processes that die at an await, events that are delivered late, and the clock.
Every wait of a service (a write, a question to its neighbour) is a gate; the seed opens one at a
time and nothing else runs meanwhile, so a seed is the same story each time.
"""

from __future__ import annotations

import contextlib
import logging
import random
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from mesh import clock, codec
from mesh.errors import Conflict, MeshError, Unavailable
from mesh.framework import Caller, Context, idempotency
from mesh.framework.conditional import ANY
from mesh.framework.deferred import DeferredWork
from mesh.framework.inbox import ServiceInbox
from mesh.framework.outbox import ServiceOutbox
from mesh.services.product.actions import _discontinue, _restock, _update
from mesh.services.product.messages import Restock, UpdateProduct
from tests.services.in_process import Clock
from tests.services.order import at_rest
from tests.services.order.stage import Gated, Network, Stage
from tests.services.order.support import ADDRESS, wipe

if TYPE_CHECKING:
    import asyncio

    from tests.services.in_process import Room

PRODUCTS = [f"prd_00000000-0000-7000-8000-00000000000{n}" for n in range(1, 4)]
BUYERS = [Caller("user", f"usr_{n}", ("customer",)) for n in range(3)]
STAFF = Caller("user", "usr_sam", ("staff",))
ACTS = (1, 5)
STEPS = (10, 30)
"""Fewest and most of one story: acts are short, or a later event mends what went wrong before."""

TASKS_MAX = 10
HOURS = 14
"""Enough for each order to have been a backorder that got stock when another one expired."""

ROUNDS_MAX = 4000
"""Steps in which everything must come to rest once the faults are over."""


class _Errors(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(f"{record.name}: {record.getMessage()} {record.facts}")


@dataclass
class Simulation:
    """One seed's story."""

    seed: int
    order: Room
    product: Room
    wall: Clock
    faults: bool = True
    away: bool = False
    wrong: list[str] = field(default_factory=list)
    answers: dict[str, list[object]] = field(default_factory=dict)
    unanswered: dict[str, tuple] = field(default_factory=dict)
    """Requests with a key whose sender will send them again."""
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.products = PRODUCTS[: self.rng.choice([1, 1, 2, 3])]
        self.keys = self.rng.choice([2, 4, 8])
        self.jump_s = self.rng.choice([[0.1, 1, 6], [1, 6, 16 * 60], [16 * 60]])
        self.sluggish = self.rng.random() < 0.5
        self.trouble = self.rng.choice([0, 1, 1, 4])
        self.pace = self.rng.choice([2, 4, 8])
        self.lag = self.rng.choice([0.1, 0.5, 0.9])
        self.moves = self._mood()
        self.stage = Stage()
        self.inner = {"order": self.order.database, "product": self.product.database}
        self.rooms = {"order": self.order, "product": self.product}
        self.inbox = ServiceInbox(
            self.order.database, self.order.wires.vocabulary, self.order.service.listeners
        )
        self.outbox = ServiceOutbox(self.product.database, "product")
        self.work: dict[str, DeferredWork] = {}
        self.urgencies: dict[asyncio.Task, float] = {}

    def chance(self, p: float) -> bool:
        return self.faults and self.rng.random() < p * self.trouble

    def delay(self) -> int:
        return self.rng.choice([10, 100, 1000]) if self.faults else 0

    def uuid7(self) -> bytes:
        """Time-sortable as ours, its chance from the seed."""
        raw = bytearray(self.wall.now_ms.to_bytes(6, "big") + self.rng.randbytes(10))
        raw[6] = (raw[6] & 0x0F) | 0x70
        raw[8] = (raw[8] & 0x3F) | 0x80
        return uuid.UUID(bytes=bytes(raw)).bytes

    async def run(self) -> list[str]:
        """Tell the story to its end; returns everything that is wrong then."""
        for room in self.rooms.values():
            room.wires.database = Gated(room.wires.database, self)
        self.order.wires.client = Network(self.order.wires.client, self)
        logger, handler = logging.getLogger("mesh"), _Errors(self.wrong)
        logger.addHandler(handler)
        try:
            await self.inbox.prepare()
            for name in self.rooms:
                self.boot(name)
            await self.plant()
            for act in range(self.rng.randint(*ACTS)):
                self.faults = True
                for _ in range(self.rng.randint(*STEPS)):
                    self.wall.now_ms += 1
                    self.stage.now += 1
                    await self.step()
                await self.heal()
                self.check(f"at rest after act {act + 1}")
            for hour in range(HOURS):
                if not self.expirable():
                    break
                self.wall.forward(3600)
                await self.heal()
                self.check(f"at rest {hour + 1} hours later")
            self.wrong += [f"in the end: {text}" for text in self.expirable()]
        finally:
            logger.removeHandler(handler)
            for name, room in self.rooms.items():
                room.wires.database = self.inner[name]
        return self.wrong + self.stage.failures

    def boot(self, name: str) -> None:
        """A fresh process: what it had in memory is gone."""
        room = self.rooms[name]
        room._running = idempotency.Running()
        self.work[name] = DeferredWork(
            room.wires.database,
            room.service.deferred,
            lambda trace, cause, deadline_s: Context(
                room.wires, Caller("service", name), trace, cause, deadline_s
            ),
        )

    async def plant(self) -> None:
        products = [
            {
                "id": product_id,
                "sku": f"SKU-{n}",
                "name": f"Product {n}",
                "price_minor": 100 * self.rng.randint(1, 30),
                "currency": "EUR",
                "on_hand": self.rng.choice([0, 0, 1, 2, 4]),
            }
            for n, product_id in enumerate(self.products)
        ]
        await self.product.plant({"products": products})

    # --- what may happen next ----------------------------------------------------------------

    def _mood(self) -> dict:
        """Each story has its own (swarm testing, Groce et al. 2012): some things abound.

        Half of them are small worlds in which one kind of race is likely.
        """
        anything = {
            self.create: 7,
            self.pay: 8,
            self.again: 6,
            self.cancel: 3,
            self.restock: 6,
            self.ship: 4,
            self.arrive: 1,
            self.take_back: 3,
            self.reprice: 1,
            self.discontinue: 0.3,
            self.deliver: 10,
            self.defer: 10,
            self.tick: 5,
            self.crash: 2,
            self.fade: 1,
            self.lull: 4,
        }
        if self.rng.random() < 0.5:
            factors = [0, 0.5, 1, 1, 3]
            mood = {move: weight * self.rng.choice(factors) for move, weight in anything.items()}
            return {**mood, self.create: anything[self.create]}
        self.products, self.keys = PRODUCTS[:1], self.rng.choice([4, 8, 16])
        self.pace = self.rng.choice([1, 2, 4])
        stock_comes_back = {self.create: 4, self.restock: 5, self.deliver: 8, self.defer: 3}
        nobody_pays = {self.create: 4, self.tick: 4, self.defer: 8, self.deliver: 8, self.crash: 1}
        second_thoughts = {self.create: 5, self.cancel: 5, self.defer: 6, self.crash: 1}
        declined = {self.create: 2, self.pay: 8, self.again: 4, self.defer: 3, self.tick: 1}
        sold_out = {self.create: 6, self.discontinue: 1, self.deliver: 5, self.defer: 4}
        comes_back = {
            self.create: 3,
            self.pay: 6,
            self.ship: 6,
            self.take_back: 5,
            self.defer: 5,
            self.deliver: 4,
            self.crash: 1,
        }
        return self.rng.choice(
            [stock_comes_back, nobody_pays, second_thoughts, declined, sold_out, comes_back]
        )

    async def step(self) -> None:
        """Something happens, and what is under way goes on for a while."""
        await self.rng.choices(list(self.moves), list(self.moves.values()))[0]()
        for _ in range(self.rng.randint(0, self.pace)):
            self.stage.now += 1
            await self.open()

    async def open(self) -> None:
        """Let somebody go on: anybody, or in a sluggish story whoever is the most urgent.

        Priorities that seldom change leave one task behind for long (Burckhardt et al. 2010).
        """
        ready = self.stage.ready
        if not ready:
            return
        gate = self.rng.choice(ready)
        if self.sluggish:
            gate = max(ready, key=lambda each: self.urgency(each.task))
            if self.rng.random() < 0.1:
                self.urgencies[gate.task] = self.rng.random() / 10
        await self.stage.go(gate)

    def urgency(self, task: asyncio.Task) -> float:
        if task not in self.urgencies:
            self.urgencies[task] = self.rng.random()
        return self.urgencies[task]

    async def tick(self) -> None:
        self.wall.forward(self.rng.choice(self.jump_s))

    async def fade(self) -> None:
        self.away = not self.away

    async def crash(self) -> None:
        name = self.rng.choice(["order", "order", "product"])
        self.tell(f"{name} dies")
        await self.stage.kill(name)
        self.boot(name)

    async def deliver(self) -> None:
        cursor = await self.inbox.cursor("product")
        rows = self.rng.randint(1, 6)
        events = await self.outbox.after(cursor.link.seq, rows_max=rows, bytes_max=10**6)
        if events:
            self.tell(f"order hears {[event.type for event in events]}")
            await self.inbox.apply("product", events)

    async def defer(self) -> None:
        name = self.rng.choice(["order", "order", "product"])
        await self.do(name)

    async def do(self, name: str) -> None:
        """Begin one piece of deferred work that is due."""
        work = self.work[name]
        due = work._due(self.wall.now_ms)
        if due:
            chosen = self.rng.choice(due)
            self.tell(f"{name} does {chosen.action} {chosen.key[-4:]}")
            work._running.add((chosen.action, chosen.key))
            self.stage.spawn(name, work._perform(chosen))
            await self.stage.settle()

    async def create(self) -> None:
        n = self.rng.randrange(self.keys)
        fixed = random.Random(self.seed * 100 + n)
        lines = [
            {"product_id": product_id, "quantity": fixed.randint(1, 3)}
            for product_id in fixed.sample(
                self.products, min(len(self.products), fixed.choice([1, 1, 2]))
            )
        ]
        body = {
            "lines": lines,
            "ship_to": ADDRESS,
            "on_shortage": "reject" if fixed.random() < 0.15 else "backorder",
        }
        if fixed.random() < 0.1:
            body["expected_total_minor"] = fixed.choice([1, 100_000])
        await self.ask("order", "create", body, BUYERS[n % len(BUYERS)], f"create-{n}")

    def some_order(self, statuses: str = "") -> tuple[str, Caller] | None:
        """An order and its owner; mostly one of those that are named, if there is one."""
        sql = "SELECT id || ' ' || user_id FROM orders"
        found = self.inner["order"].read.all(str, sql)
        if self.rng.random() < 0.8:
            wanted = f"{sql} WHERE status IN ({statuses or 'status'})"
            found = self.inner["order"].read.all(str, wanted) or found
        if not found:
            return None
        order_id, user_id = self.rng.choice(sorted(found)).split()
        return order_id, next(buyer for buyer in BUYERS if buyer.id == user_id)

    async def pay(self) -> None:
        found = self.some_order("'reserved', 'paying'")
        if found:
            order_id, owner = found
            n = self.rng.randrange(2)
            token = random.Random(f"{order_id}{n}").choice(["tok_visa", "tok_declined"])
            key = self.rng.choice([None, f"pay-{order_id}-{n}"])
            body = {"id": order_id, "payment_token": token}
            await self.ask("order", "pay", body, owner, key)

    async def cancel(self) -> None:
        found = self.some_order()
        if found:
            order_id, owner = found
            key = self.rng.choice([None, f"cancel-{order_id}"])
            await self.ask(
                "order", "cancel", {"id": order_id}, self.rng.choice([owner, STAFF]), key
            )

    async def ship(self) -> None:
        await self.fulfil("ship", "'paid'")

    async def arrive(self) -> None:
        await self.fulfil("deliver", "'shipped'")

    async def take_back(self) -> None:
        await self.fulfil("return", "'shipped', 'delivered'")

    async def fulfil(self, name: str, statuses: str) -> None:
        found = self.some_order(statuses)
        if found:
            order_id, _ = found
            key = self.rng.choice([None, f"{name}-{order_id}"])
            await self.ask("order", name, {"id": order_id}, STAFF, key)

    async def reprice(self) -> None:
        product_id, price = self.rng.choice(self.products), 100 * self.rng.randint(1, 30)
        await self.product.transact(_update, UpdateProduct(product_id, price_minor=price), ANY)
        self.tell(f"{product_id[-1]} costs {price}")

    async def discontinue(self) -> None:
        product_id = self.rng.choice(self.products)
        await self.product.transact(_discontinue, product_id, ANY)
        self.tell(f"{product_id[-1]} is sold no longer")

    async def restock(self) -> None:
        """At once: its own waits are of no interest, what it does to others is."""
        delta = self.rng.choice([-1, 1, 2, 5])
        wanted = Restock(self.rng.choice(self.products), delta, "delivery")
        with contextlib.suppress(Conflict):
            await self.product.transact(_restock, wanted)
            self.tell(f"{delta} of {wanted.id[-1]} arrive")

    async def again(self) -> None:
        if self.unanswered:
            await self.ask(*self.rng.choice(list(self.unanswered.values())))

    async def ask(self, room: str, name: str, body: dict, caller: Caller, key: str | None) -> None:
        if len(self.stage.tasks) < TASKS_MAX:
            self.tell(f"{caller.id} asks {name} {key or body.get('id', '')[-4:]}")
            self.stage.spawn(room, self.answered(room, name, body, caller, key))
            await self.stage.settle()

    async def answered(
        self, room: str, name: str, body: dict, caller: Caller, key: str | None
    ) -> None:
        """Ask as a customer does, and look at what comes back."""
        mark = f"{caller.id} {name} {key}"
        if key is not None:
            self.unanswered[mark] = (room, name, body, caller, key)
        begun = key is not None and self.inner["order"].read.one(
            int,
            "SELECT 1 FROM request WHERE caller = :caller AND key = :key",
            caller=caller.subject,
            key=key,
        )
        try:
            answer = await self.rooms[room].ask(name, body, caller=caller, key=key)
        except Unavailable:
            return
        except Conflict as error:
            if error.code != "request-running":
                self.unanswered.pop(mark, None)
            taken = {"illegal-transition", "request-running"}
            if error.code not in taken or (begun and error.code == "illegal-transition"):
                self.wrong.append(f"{name} {key}: {error.code} {error}, begun before: {begun}")
            return
        except MeshError as error:
            self.wrong.append(f"{name}: {error!r}")
            return
        self.unanswered.pop(mark, None)
        if key is not None:
            self.answers.setdefault(mark, []).append(codec.plain(answer))

    def tell(self, text: str) -> None:
        self.story.append(f"{self.wall.now_ms % 10**7} {text}")

    # --- the end -----------------------------------------------------------------------------

    async def heal(self) -> None:
        """No more faults: everything that is owed is done, and what was on its way comes last."""
        self.faults, self.away = False, False
        await self.drain(patient=self.rng.random() < 0.3)
        self.stage.now += 10**6
        await self.drain(patient=True)
        if self.stage.tasks:
            self.wrong.append("a task waits for nothing that could come")

    async def lull(self) -> None:
        """All goes well for a while, except for what is still on its way."""
        faults, away, self.faults, self.away = self.faults, self.away, False, False
        await self.drain(patient=self.rng.random() < 0.3)
        self.faults, self.away = faults, away

    async def drain(self, *, patient: bool) -> None:
        """Do what there is to do; the patient also let pass what time deferred work asks for."""
        for _ in range(ROUNDS_MAX):
            self.wall.now_ms += 1
            moves = [self.open] * bool(self.stage.ready) + [self.deliver] * self.behind()
            moves += [
                partial(self.do, name)
                for name, work in self.work.items()
                if work._due(self.wall.now_ms)
            ]
            if patient and self.unanswered and not self.stage.tasks:
                moves.append(self.again)
            if moves:
                await self.rng.choice(moves)()
            elif not patient or (due_ms := self.undated()) is None or due_ms < self.wall.now_ms:
                return
            else:
                self.wall.now_ms = due_ms
        self.wrong.append(f"does not come to rest within {ROUNDS_MAX} steps")

    def behind(self) -> bool:
        told = self.inner["product"].read.one(int, "SELECT max(seq) FROM outbox") or 0
        return told > (self.inner["order"].read.one(int, "SELECT seq FROM mlp_cursor") or 0)

    def undated(self) -> int | None:
        """When the next piece of work is due that waits for no business date."""
        sql = "SELECT min(due_ms) FROM deferred WHERE dated = 0"
        found = [store.read.one(int, sql) for store in self.inner.values()]
        return min((due for due in found if due is not None), default=None)

    def check(self, when: str) -> None:
        found = at_rest.wrong(self.order, self.product) + at_rest.answered_twice(
            self.order, self.answers
        )
        self.wrong += [f"{when}: {text}" for text in found]

    def expirable(self) -> list[str]:
        return at_rest.expirable(self.order, self.product)


async def simulate(seed: int, order: Room, product: Room, monkeypatch) -> Simulation:
    """Run one seed on emptied databases."""
    await wipe(order)
    await wipe(product)
    client = order.wires.client
    simulation = Simulation(seed, order, product, Clock(monkeypatch))
    simulation.wall.now_ms = 1_800_000_000_000
    monkeypatch.setattr(clock, "uuid7", simulation.uuid7)
    monkeypatch.setattr(clock, "uniform", simulation.rng.uniform)
    try:
        simulation.wrong = await simulation.run()
    finally:
        order.wires.client = client
    return simulation
