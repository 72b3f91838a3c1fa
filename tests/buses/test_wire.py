"""Frames there and back, and anything else refused without a word."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.buses.contract import HASH_BYTES, Epoch, Event, Follower, Link, Position, StreamHead
from mesh.buses.zmq.protocol import frames
from mesh.buses.zmq.wire import HEADER_BYTES, join, pack, split, topic, unpack, unpack_feed
from tests.buses.histories import chain

number = st.integers(0, 2**62)
word = st.integers(0, 2**32 - 1)
hash_ = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
link = st.builds(Link, word, number, hash_)
position = st.builds(Position, word, number)
epoch = st.builds(Epoch, word, number, hash_, st.binary(max_size=16))
epochs = st.lists(epoch, max_size=3).map(tuple)
event = st.builds(
    Event, text, word, number, word, hash_, hash_, hash_, text, text, number,
    st.binary(max_size=40), st.binary(max_size=200),
)  # fmt: skip
events = st.lists(event, max_size=4).map(tuple)
some_events = st.lists(event, min_size=1, max_size=4).map(tuple)

followers = st.lists(
    st.builds(Follower, text, position, word, number, st.booleans()), max_size=2
).map(tuple)

replies = [
    st.builds(frames.Welcome, word, word, link, number, number),
    st.builds(frames.Recheck, word, word, link),
    st.builds(
        frames.Fenced, word, word, st.sampled_from(["FORK", "BEHIND", "OLD_EPOCH"]), text
    ),
    st.builds(frames.Ack, word, position),
    st.builds(frames.Nak, word, st.sampled_from(["GAP", "EPOCH", "NOSPACE"]), link),
    st.builds(frames.Pong, word),
    st.builds(frames.Attached, word, epochs, link, number),
    st.builds(frames.Reset, word, st.sampled_from(["TRIMMED", "PROTO"]), word),
    st.builds(
        frames.Batch, word, word, link, events, st.just(()),
        st.lists(st.builds(StreamHead, text, link, number, word, followers), max_size=3).map(tuple),
    ),
]  # fmt: skip
requests = [
    st.builds(frames.Hello, word, word, text, epochs, link, number, text, link),
    st.builds(frames.Put, word, some_events),
    st.builds(frames.Ping, word),
    st.builds(frames.Attach, word, text, text, link, word, text),
    st.builds(frames.Get, word, word, text, position, st.integers(0, 2**31), st.integers(0, 2**31)),
    st.builds(frames.Committed, word, text, position, word),
]
feed = [
    st.builds(frames.Evt, word, text, link, events),
    st.builds(
        frames.Heartbeat,
        word,
        st.lists(st.builds(frames.Beat, text, word, number, link, number), max_size=3).map(tuple),
    ),
]
fast = settings(max_examples=60, deadline=None)


@fast
@given(st.one_of(*replies, *requests))
def test_frame_comes_back_equal_when_unpacked(frame):
    packed = pack(frame)
    assert len(packed[0]) == HEADER_BYTES
    assert unpack(packed) == frame


@fast
@given(st.one_of(*feed))
def test_news_come_back_equal_behind_their_topic(frame):
    assert unpack_feed(pack(frame)) == frame


def test_batch_carries_arrivals_when_it_is_of_everything():
    batch = frames.Batch(1, 2, Link(0, 9, bytes(16)), chain(2), (8, 9))
    assert unpack(pack(batch)) == batch
    assert unpack(pack(frames.Batch(1, 2, Link(0, 9, bytes(16)), chain(2), (8,)))) is None


def test_news_come_without_events_when_they_cannot_be_used():
    events = chain(3)
    news = frames.Evt(7, "order", events[-1].link, events)
    bare = unpack_feed(pack(news), bare=True)
    assert bare == frames.Evt(7, "order", events[-1].link, ())


def test_topics_of_prefixes_differ():
    assert not topic("orders").startswith(topic("order"))
    assert not topic("order-audit").startswith(topic("order"))


@fast
@given(st.one_of(*replies, *requests), st.data())
def test_frame_is_refused_when_one_bit_is_flipped(frame, data):
    packed = pack(frame)
    index = data.draw(st.integers(0, len(packed) - 1).filter(lambda i: packed[i]))
    at = data.draw(st.integers(0, len(packed[index]) * 8 - 1))
    harmed = bytearray(packed[index])
    harmed[at // 8] ^= 1 << (at % 8)
    packed[index] = bytes(harmed)
    assert unpack(packed) is None


@fast
@given(st.one_of(*replies, *requests, *feed), st.integers(0, 3))
def test_frame_is_refused_when_parts_are_missing_or_many(frame, count):
    packed = pack(frame)
    for other in (packed[:count], [*packed, *([b""] * (count + 1))]):
        if len(other) != len(packed):
            assert unpack(other) is None
            assert unpack_feed(other) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200), st.just(b"M1" + bytes(90))), max_size=6))
def test_garbage_is_refused_without_raising(parts):
    assert unpack(parts) is None
    assert unpack_feed(parts) is None


def _resealed(kind: int, *rest: bytes) -> list[bytes]:
    """A message whose checksum is right, whatever it says."""
    from zlib import crc32

    header = struct.pack(
        ">2sBBHHIIIIQQ16s16s16s", b"M1", 1, kind, 0, 0, 7, *([0] * 5), *([b""] * 3)
    )
    crc = crc32(header)
    for part in rest:
        crc = crc32(part, crc)
    return [header + struct.pack(">I", crc), *rest]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 255), st.lists(st.binary(max_size=300), max_size=3))
def test_wrong_content_is_refused_without_raising_when_the_checksum_is_right(kind, rest):
    unpack(_resealed(kind, *rest))


@pytest.mark.parametrize(
    "json",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"stream":"a","after":{"epoch":-1,"seq":0},"rows_max":1,"bytes_max":1}',
        b'{"stream":"a","after":{"epoch":1,"seq":99999999999999999999},"rows_max":1,"bytes_max":1}',
        b'{"stream":"a","after":{"epoch":1,"seq":1.5},"rows_max":1,"bytes_max":1}',
        b'{"stream":"\xff","after":{"epoch":1,"seq":1},"rows_max":1,"bytes_max":1}',
        b'{"stream":7,"after":{"epoch":1,"seq":1},"rows_max":1,"bytes_max":1}',
    ],
)
def test_question_is_refused_when_its_json_is_wrong(json):
    assert unpack(_resealed(0x43, json)) is None


def test_question_is_read_when_only_the_order_of_its_json_differs():
    json = b'{"bytes_max":1,"rows_max":1,"after":{"seq":5,"epoch":1},"stream":"a","session":99}'
    get = unpack(_resealed(0x43, json))
    assert get == frames.Get(7, 0, "a", Position(1, 5), 1, 1)


@pytest.mark.parametrize("cut", [1, 50, 111, 112, 113, 130, 200])
def test_events_are_refused_when_cut_short(cut):
    blob = join(chain(2))
    assert split(blob[:cut]) is None
    assert len(split(blob)) == 2


def test_events_are_refused_when_a_length_points_beyond_the_end():
    blob = bytearray(join(chain(1)))
    struct.pack_into(">I", blob, 108, 2**32 - 1)
    assert split(bytes(blob)) is None
