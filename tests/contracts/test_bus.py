"""What every bus promises, shown on each one there is, with a real broker and real files."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time

import pytest

from mesh import bus
from mesh.buses.contract import Applied, Position
from mesh.errors import BusUnavailable, Conflict, InvalidInput
from tests.buses.support import BrokerProcess, FileInbox, FileOutbox, connected, until

pytestmark = pytest.mark.e2e


@pytest.fixture(params=bus.schemes())
def broker(request, tmp_path):
    wanted = bus.program(
        f"{request.param}://", directory=tmp_path / "bus", sockets=tmp_path / "run"
    )
    if wanted is None:
        pytest.skip("a server of its own, not started here")
    process = BrokerProcess(wanted, tmp_path / "bus")
    process.start()
    yield process
    process.kill()


@pytest.fixture
def url(broker):
    return broker.broker.client_url


@pytest.fixture
def outbox(tmp_path):
    return FileOutbox(tmp_path / "order.db", "order")


@pytest.fixture
def inbox(tmp_path):
    return FileInbox(tmp_path / "product.db")


def bodies(first, last):
    return [b"%d" % number for number in range(first, last + 1)]


def numbered(first, last):
    return [(number, b"%d" % number) for number in range(first, last + 1)]


async def acknowledged(outbox, seq):
    await until(lambda: outbox.acked.seq >= seq, f"event {seq} was not acknowledged")


async def test_events_arrive_in_order_when_told_before_and_after(url, outbox, inbox):
    outbox.tell(*bodies(1, 1000))
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        await inbox.has("order", 1000)
        outbox.tell(*bodies(1001, 1001))
        teller.wake()
        await inbox.has("order", 1001)
        assert teller.state == listener.state == "live"
    assert inbox.effects("order") == numbered(1, 1001)


async def test_bad_way_of_the_feed_loses_nothing_and_hands_nothing_over_twice(url, outbox, inbox):
    way = bus.Disorder()
    for kind in ("drop", "dup", "reorder"):
        way.begin(bus.Disturbance(kind, 60, 0.4, seed=7))
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.disturb(way)
        listener.subscribe(["order"], inbox)
        for number in range(1, 301):
            outbox.tell(b"%d" % number)
            teller.wake()
            await asyncio.sleep(0.002)
        await inbox.has("order", 300)
        way.end()
        await until(lambda: listener.state == "live")
    assert inbox.effects("order") == numbered(1, 300)


async def test_event_is_heard_at_once_when_it_is_told(url, outbox, inbox):
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        await until(lambda: teller.state == listener.state == "live")
        took = []
        for number in range(1, 6):
            start = time.monotonic()
            outbox.tell(b"1")
            teller.wake()
            await inbox.has("order", number)
            took.append(time.monotonic() - start)
        assert min(took) < 0.1


async def test_event_is_durable_when_acknowledged(url, broker, outbox):
    async with connected(url, "order") as teller:
        teller.relay(outbox)
        outbox.tell(*bodies(1, 300))
        teller.wake()
        await acknowledged(outbox, 300)
    broker.kill()
    broker.start()
    async with connected(url, "cli") as reader:
        (head,) = await reader.heads(timeout_s=30)
        assert (head.stream, head.head) == ("order", outbox.head())


async def test_consumer_goes_on_from_its_cursor_when_it_returns(url, outbox, inbox, tmp_path):
    async with connected(url, "order") as teller:
        teller.relay(outbox)
        for start in (1, 101, 201):
            async with connected(url, "product") as listener:
                outbox.tell(*bodies(start, start + 49))
                teller.wake()
                listener.subscribe(["order"], inbox)
                await inbox.has("order", start + 49)
            outbox.tell(*bodies(start + 50, start + 99))
            teller.wake()
            inbox = FileInbox(tmp_path / "product.db")
        async with connected(url, "product") as listener:
            listener.subscribe(["order"], inbox)
            await inbox.has("order", 300)
    assert inbox.effects("order") == numbered(1, 300)


async def test_events_told_meanwhile_arrive_when_the_broker_returns(url, broker, outbox, inbox):
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        outbox.tell(*bodies(1, 10))
        teller.wake()
        await inbox.has("order", 10)
        took = []
        for round_ in range(1, 4):
            broker.kill()
            outbox.tell(*bodies(10 * round_ + 1, 10 * round_ + 10))
            teller.wake()
            broker.start()
            start = time.monotonic()
            await inbox.has("order", 10 * round_ + 10)
            took.append(time.monotonic() - start)
    assert min(took) < 0.5
    assert inbox.effects("order") == numbered(1, 40)


async def test_events_arrive_when_a_frozen_broker_thaws(url, broker, outbox, inbox):
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        outbox.tell(*bodies(1, 10))
        teller.wake()
        await inbox.has("order", 10)
        broker.process.send_signal(signal.SIGSTOP)
        outbox.tell(*bodies(11, 2000))
        teller.wake()
        await until(lambda: listener.state == "connecting")
        broker.process.send_signal(signal.SIGCONT)
        await inbox.has("order", 2000)
    assert inbox.effects("order") == numbered(1, 2000)


async def test_log_is_rebuilt_from_the_outboxes_when_it_was_deleted(url, broker, outbox, inbox):
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        outbox.tell(*bodies(1, 500))
        teller.wake()
        await inbox.has("order", 500)
        broker.kill()
        shutil.rmtree(broker.directory)
        outbox.tell(*bodies(501, 600))
        teller.wake()
        broker.start()
        await inbox.has("order", 600)
        await acknowledged(outbox, 600)
        (head,) = await teller.heads(timeout_s=30)
        assert head.head == outbox.head()
    assert inbox.effects("order") == numbered(1, 600)


async def test_failing_event_is_offered_again_and_holds_the_stream(url, outbox, tmp_path):
    failures = []

    def handle(event):
        if event.seq == 5 and len(failures) < 3:
            failures.append(event.seq)
            raise RuntimeError

    inbox = FileInbox(tmp_path / "product.db", handle=handle)
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        outbox.tell(*bodies(1, 20))
        teller.wake()
        await inbox.has("order", 20)
    assert failures == [5, 5, 5]
    assert inbox.effects("order") == numbered(1, 20)


async def test_other_streams_go_on_when_one_is_held(url, tmp_path):
    def handle(event):
        if event.stream == "order":
            raise RuntimeError

    inbox = FileInbox(tmp_path / "product.db", handle=handle)
    order, user = (FileOutbox(tmp_path / f"{name}.db", name) for name in ("order", "user"))
    async with (
        connected(url, "order") as one,
        connected(url, "user") as two,
        connected(url, "product") as listener,
    ):
        one.relay(order)
        two.relay(user)
        listener.subscribe(["order", "user"], inbox)
        order.tell(*bodies(1, 3))
        user.tell(*bodies(1, 30))
        one.wake()
        two.wake()
        await inbox.has("user", 30)
    assert inbox.effects("order") == []


async def test_inbox_is_asked_again_when_it_raises(url, outbox, inbox):
    real, calls = inbox.apply, []

    async def apply(stream, events):
        calls.append(len(events))
        if len(calls) == 1:
            raise OSError("the database is away")
        return await real(stream, events)

    inbox.apply = apply
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        outbox.tell(*bodies(1, 3))
        teller.wake()
        await inbox.has("order", 3)
    assert inbox.effects("order") == numbered(1, 3)


async def test_nothing_is_lost_when_the_consumer_is_far_slower(url, outbox, inbox):
    real = inbox.apply

    async def apply(stream, events):
        await asyncio.sleep(0.002)
        return await real(stream, events[:40])

    inbox.apply = apply
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        for start in range(1, 10_001, 500):
            outbox.tell(*bodies(start, start + 499))
            teller.wake()
            await asyncio.sleep(0)
        await inbox.has("order", 10_000)
    assert inbox.effects("order") == numbered(1, 10_000)


async def test_streams_are_kept_apart_when_one_name_begins_another(url, tmp_path, inbox):
    names = ("order", "orders", "order-audit")
    outboxes = [FileOutbox(tmp_path / f"{name}.db", name) for name in names]
    async with (
        connected(url, names[0]) as one,
        connected(url, names[1]) as two,
        connected(url, names[2]) as three,
        connected(url, "product") as listener,
    ):
        listener.subscribe(["order", "orders"], inbox)
        for teller, each in zip((one, two, three), outboxes, strict=True):
            teller.relay(each)
            each.tell(*(f"{each.stream} {number}".encode() for number in range(1, 51)))
            teller.wake()
        await inbox.has("order", 50)
        await inbox.has("orders", 50)
        heads = await listener.heads(timeout_s=30)
    for name in ("order", "orders"):
        expected = [(number, f"{name} {number}".encode()) for number in range(1, 51)]
        assert inbox.effects(name) == expected
    assert inbox.effects("order-audit") == []
    assert {head.stream for head in heads} >= {"order", "orders"}


async def test_every_consumer_gets_every_event(url, outbox, tmp_path):
    inboxes = [FileInbox(tmp_path / f"c{number}.db") for number in range(3)]
    async with connected(url, "order") as teller:
        teller.relay(outbox)
        listeners = [bus.connect(url, name=f"c{number}") for number in range(3)]
        for listener, inbox in zip(listeners, inboxes, strict=True):
            listener.subscribe(["order"], inbox)
            await listener.start()
        outbox.tell(*bodies(1, 100))
        teller.wake()
        for inbox in inboxes:
            await inbox.has("order", 100)
            assert inbox.effects("order") == numbered(1, 100)
        for listener in listeners:
            await listener.close()


async def test_cause_arrives_before_its_effect(url, outbox, tmp_path):
    product = FileOutbox(tmp_path / "product-out.db", "product")
    inbox = FileInbox(tmp_path / "product.db")
    async with connected(url, "order") as teller, connected(url, "product") as both:

        def handle(event):
            product.tell(b"because of " + event.body)
            both.wake()

        inbox.handle = handle
        teller.relay(outbox)
        both.relay(product)
        both.subscribe(["order"], inbox)
        for number in range(1, 101):
            outbox.tell(b"%d" % number)
            teller.wake()
            await asyncio.sleep(0)
        await acknowledged_all(outbox, product)
        seen = []
        async for batch in teller.arrivals(0, follow=False):
            seen += batch
    assert [each.arrival for each in seen] == list(range(1, 201))
    order = {each.event.body: each.arrival for each in seen}
    assert all(order[b"%d" % n] < order[b"because of %d" % n] for n in range(1, 101))


async def acknowledged_all(outbox, product):
    await until(lambda: product.head().seq == outbox.head().seq)
    await acknowledged(outbox, outbox.head().seq)
    await acknowledged(product, product.head().seq)


async def test_arrivals_start_at_the_last_few_and_follow(url, outbox):
    async with connected(url, "order") as teller, connected(url, "cli") as reader:
        teller.relay(outbox)
        outbox.tell(*bodies(1, 50))
        teller.wake()
        await acknowledged(outbox, 50)
        seen = [each async for batch in reader.arrivals(-3, follow=False) for each in batch]
        assert [each.event.seq for each in seen] == [48, 49, 50]
        following = reader.arrivals(-1, follow=True)
        assert [each.event.seq for each in await anext(following)] == [50]
        took = []
        for number in range(51, 56):
            start = time.monotonic()
            outbox.tell(b"%d" % number)
            teller.wake()
            assert [each.event.seq for each in await anext(following)] == [number]
            took.append(time.monotonic() - start)
        assert min(took) < 0.1
        await following.aclose()


async def test_arrivals_of_an_empty_log_are_none(url):
    async with connected(url, "cli") as reader:
        assert [batch async for batch in reader.arrivals(0, follow=False)] == []
        assert await reader.heads(timeout_s=30) == []


async def test_following_goes_on_with_what_is_new_when_the_log_was_deleted(url, broker, outbox):
    async with connected(url, "order") as teller, connected(url, "cli") as reader:
        teller.relay(outbox)
        outbox.tell(*bodies(1, 20))
        teller.wake()
        await acknowledged(outbox, 20)
        following = reader.arrivals(-1, follow=True)
        assert [each.event.seq for each in await anext(following)] == [20]
        broker.kill()
        shutil.rmtree(broker.directory)
        outbox.tell(*bodies(21, 22))
        teller.wake()
        broker.start()
        fresh = []
        while len(fresh) < 2:
            fresh += await anext(following)
        assert [each.event.seq for each in fresh] == [21, 22]
        await following.aclose()


async def test_large_event_passes(url, outbox, inbox):
    large = b"x" * (bus.EVENT_BYTES_MAX - 8)
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        outbox.tell(b"1", large, large, b"4")
        teller.wake()
        await inbox.has("order", 4)
    assert [len(body) for _, body in inbox.effects("order")] == [1, len(large), len(large), 1]


async def test_absent_bus_is_waited_for(url, broker, outbox, inbox):
    broker.kill()
    outbox.tell(*bodies(1, 5))
    async with connected(url, "order") as teller, connected(url, "product") as listener:
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        teller.wake()
        assert teller.state == listener.state == "connecting"
        with pytest.raises(BusUnavailable):
            await teller.heads(timeout_s=0.1)
        broker.start()
        await inbox.has("order", 5)
        await until(lambda: teller.state == listener.state == "live")


async def test_new_history_replaces_the_old_one_when_a_producer_was_restored(url, outbox, inbox):
    async with connected(url, "product") as listener:
        listener.subscribe(["order"], inbox)
        async with connected(url, "order") as teller:
            teller.relay(outbox)
            outbox.tell(*bodies(1, 10))
            teller.wake()
            await inbox.has("order", 10)
        outbox.restore(6)
        outbox.tell(b"seven", b"eight")
        async with connected(url, "order") as teller:
            teller.relay(outbox)
            await inbox.has("order", 12)
            (head,) = await teller.heads(timeout_s=30)
    assert inbox.effects("order") == [*numbered(1, 10), (7, b"seven"), (8, b"eight")]
    assert inbox.noticed == [("order", 1), ("order", 2)]
    assert (head.head.epoch, head.head.seq) == (2, 8)


async def test_producer_is_fenced_when_an_older_file_was_put_back(url, outbox, inbox):
    async with connected(url, "order") as teller:
        teller.relay(outbox)
        outbox.tell(*bodies(1, 10))
        teller.wake()
        await acknowledged(outbox, 10)
    outbox.lose(6)
    async with connected(url, "order") as teller:
        teller.relay(outbox)
        await until(lambda: teller.state.startswith("fenced: BEHIND"))
        (head,) = await teller.heads(timeout_s=30)
        assert head.head.seq == 10


async def test_close_finishes_what_is_being_applied(url, outbox, inbox):
    real, entered, release = inbox.apply, asyncio.Event(), asyncio.Event()

    async def apply(stream, events):
        entered.set()
        await release.wait()
        return await real(stream, events)

    inbox.apply = apply
    async with connected(url, "order") as teller:
        teller.relay(outbox)
        listener = bus.connect(url, name="product")
        await listener.start()
        listener.subscribe(["order"], inbox)
        outbox.tell(b"1")
        teller.wake()
        await entered.wait()
        closing = asyncio.ensure_future(listener.close())
        await asyncio.sleep(0)
        assert not closing.done()
        release.set()
        await closing
    assert inbox.effects("order") == numbered(1, 1)
    await listener.close()


async def test_stream_has_one_inbox_in_a_program(url, inbox):
    async with connected(url, "product") as listener:
        listener.subscribe(["order"], inbox)
        with pytest.raises(Conflict):
            listener.subscribe(["order"], inbox)


async def test_broker_stops_when_told_and_leaves_no_socket(url, broker, tmp_path, outbox):
    async with connected(url, "order") as teller:
        teller.relay(outbox)
        outbox.tell(*bodies(1, 10))
        teller.wake()
        await acknowledged(outbox, 10)
        assert broker.stop() == 0
    assert list((tmp_path / "run").iterdir()) == []
    broker.start()


def test_unknown_scheme_is_answered_with_those_present():
    with pytest.raises(InvalidInput) as caught:
        bus.connect("carrier-pigeon://roof", name="order")
    assert all(f"{scheme}://" in caught.value.hint for scheme in bus.schemes())


def test_position_orders_by_epoch_then_sequence():
    assert Position(1, 9) < Position(2, 1) < Position(2, 2)
    assert Applied.__struct_fields__ == ("cursor", "retry_after_s")
