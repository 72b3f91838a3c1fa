"""Who may speak for whom at the bus, on real sockets: every signer against every name (SEC-17)."""

from __future__ import annotations

import itertools

import pytest
import zmq

from mesh import clock, codec, tokens
from mesh.bus import AUDIENCE
from mesh.buses.contract import ORIGIN, Position
from mesh.buses.zmq import keys as keys_module
from mesh.buses.zmq.broker import Broker
from mesh.buses.zmq.client import ZmqBus
from mesh.buses.zmq.endpoints import FETCH, INGEST
from mesh.buses.zmq.keys import Keys
from mesh.buses.zmq.log import Log
from mesh.buses.zmq.protocol import frames
from mesh.buses.zmq.wire import pack, unpack
from mesh.errors import Forbidden, InvalidInput, Unauthenticated
from tests.buses.histories import FIRST, chain
from tests.buses.support import FileInbox, FileOutbox, until

NAMES = ("order", "product", "user", "operator")
SIGNING = {name: tokens.new_key() for name in NAMES}
STREAMS = ("order", "product", "user", "cli", "operator")
OWN = {"order": "order", "product": "product", "user": "user", "operator": "cli"}


def token(signer: str, audience: str = AUDIENCE) -> str:
    return tokens.own(SIGNING[signer], signer, audience)


@pytest.fixture
async def broker(tmp_path):
    known = Keys({name: key.public for name, key in SIGNING.items()})
    broker = Broker(Log(tmp_path / "bus"), tmp_path / "run", keys=known)
    broker.start()
    yield broker
    await broker.close()


@pytest.fixture
def peer(tmp_path):
    context, dealers = zmq.Context(), []

    def connect(name):
        dealer = context.socket(zmq.DEALER)
        dealers.append(dealer)
        dealer.connect(f"ipc://{tmp_path / 'run' / name}")
        return dealer

    yield connect
    for dealer in dealers:
        dealer.close(linger=0)
    context.term()


async def ask(dealer, frame):
    dealer.send_multipart(pack(frame))
    await until(lambda: dealer.poll(0) == zmq.POLLIN)
    return unpack(dealer.recv_multipart(zmq.NOBLOCK))


def hello(stream: str, shown: str, session: int = 1):
    return frames.Hello(session, 1, stream, (FIRST,), ORIGIN, 1, shown)


def attach(consumer: str, shown: str, stream: str = "order"):
    return frames.Attach(1, consumer, stream, ORIGIN, 0, shown)


async def test_only_its_own_stream_is_anybodys_to_write(broker, peer):
    for signer, stream in itertools.product(NAMES, STREAMS):
        ingest = peer(INGEST)
        answer = await ask(ingest, hello(stream, token(signer)))
        if stream == OWN[signer]:
            assert isinstance(answer, frames.Welcome), (signer, stream)
            continue
        assert (answer.reason, answer.req) == ("AUTH", 1), (signer, stream)
        events = chain(1, stream=stream)
        ingest.send_multipart(pack(frames.Put(1, events)))
        assert (await ask(ingest, frames.Ping(1))).reason == "EPOCH"
    assert all(stream.head == ORIGIN for stream in broker._streams.values())


async def test_anybody_known_reads_any_stream_under_its_own_name(broker, peer):
    await ask(peer(INGEST), hello("order", token("order")))
    for signer, name in itertools.product(NAMES, STREAMS):
        for stream in ("order", "*"):
            answer = await ask(peer(FETCH), attach(name, token(signer), stream))
            expected = frames.Attached if name == OWN[signer] else frames.Reset
            assert isinstance(answer, expected), (signer, name, stream)
    second = await ask(peer(FETCH), attach("order/audit", token("order")))
    assert isinstance(second, frames.Attached)


def forged() -> dict[str, str]:
    other, now_s = tokens.new_key(), clock.now_ms() // 1000
    mine = SIGNING["order"]
    good = tokens.Claims("order", "order", AUDIENCE, now_s, now_s + 60)
    return {
        "none": "",
        "no token": "x" * 40,
        "too long": "x" * 5000,
        "for another audience": token("order", "product"),
        "signed by another": tokens.sign(other, good, typ=tokens.SERVICE_TOKEN),
        "signed by a sibling": tokens.sign(SIGNING["user"], good, typ=tokens.SERVICE_TOKEN),
        "of another kind": tokens.sign(mine, good, typ=tokens.USER_TOKEN),
        "a service's, called the operator's": tokens.sign(mine, good, typ=tokens.OPERATOR_TOKEN),
        "of somebody unknown": tokens.own(other, "stranger", AUDIENCE),
    }


@pytest.mark.parametrize("kind", forged())
async def test_forged_token_is_refused(broker, peer, kind):
    shown = forged()[kind]
    answer = await ask(peer(INGEST), hello("order", shown))
    assert isinstance(answer, frames.Fenced)
    assert answer.reason == "AUTH"
    assert await ask(peer(FETCH), attach("order", shown)) == frames.Reset(1, "AUTH")
    assert broker.unknown == 2


async def test_expired_token_is_dropped_so_that_the_next_greeting_counts(broker, peer):
    now_s = clock.now_ms() // 1000
    old = tokens.Claims("order", "order", AUDIENCE, now_s - 600, now_s - 540)
    ingest = peer(INGEST)
    stale = tokens.sign(SIGNING["order"], old, typ=tokens.SERVICE_TOKEN)
    ingest.send_multipart(pack(hello("order", stale)))
    await until(lambda: broker.unknown == 1)
    assert isinstance(await ask(ingest, hello("order", token("order"))), frames.Welcome)


async def test_conversation_is_bound_to_the_connection_that_began_it(broker, peer):
    mine, another = peer(INGEST), peer(INGEST)
    events = chain(2)
    first = frames.Hello(7, 1, "order", (FIRST,), events[-1].link, 1, token("order"))
    await ask(mine, first)
    assert (await ask(another, frames.Put(7, events))).reason == "EPOCH"
    assert await ask(mine, frames.Put(7, events)) == frames.Ack(7, Position(1, 2))


async def test_real_programs_are_believed_by_their_tokens_and_not_without(broker, tmp_path):
    outbox, run = FileOutbox(tmp_path / "order.db", "order"), tmp_path / "run"
    outbox.tell(*[b"x"] * 20)
    inbox = FileInbox(tmp_path / "product.db")
    teller = ZmqBus(run, "order", lambda: token("order"))
    hearer = ZmqBus(run, "product", lambda: token("product"))
    stranger = ZmqBus(run, "user")
    stranger.relay(FileOutbox(tmp_path / "user.db", "user"))
    stranger.subscribe(["order"], FileInbox(tmp_path / "stranger.db"))
    teller.relay(outbox)
    hearer.subscribe(["order"], inbox)
    for each in (teller, hearer, stranger):
        await each.start()
    await until(lambda: len(inbox.effects("order")) == 20)
    await until(lambda: stranger.state.startswith("fenced: AUTH"))
    with pytest.raises(Forbidden):
        await stranger.heads(timeout_s=30)
    assert [head.stream for head in await hearer.heads(timeout_s=30)] == ["order"]
    for each in (teller, hearer, stranger):
        await each.close()


def test_keys_are_read_from_their_file_or_refused(tmp_path):
    path = tmp_path / "bus.json"
    with pytest.raises(InvalidInput, match=r"bus\.json"):
        keys_module.read(path)
    tokens.provision(tmp_path, project="shop", calls={"bus": (), "order": ()})
    known = keys_module.read(path)
    mine = codec.decode((tmp_path / "order.json").read_bytes(), tokens.IdentityFile)
    key = tokens.SigningKey(mine.kid, mine.private, mine.keys["order"])
    assert known.signer(tokens.own(key, "order", AUDIENCE)) == "order"
    with pytest.raises(Unauthenticated):
        known.signer(token("order"))
    assert known.knows("order")
    assert known.knows("order/audit")
    assert known.knows("cli")
    assert not known.knows("gone")
