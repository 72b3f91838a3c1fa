"""How a history goes on from an older copy of itself."""

from __future__ import annotations

import pytest

from mesh.buses.adoption import Others, adoption, shared, told_again
from mesh.buses.contract import NO_HASH, ORIGIN, Epoch, Event, Link, chain_hash
from mesh.buses.zmq.protocol.lineage import extends, intact


def epoch(number, base=0, nonce=b""):
    return Epoch(number, base, NO_HASH, nonce or bytes([number]))


HEAD = Link(1, 80, b"h" * 16)


@pytest.mark.parametrize(
    ("own", "known", "number", "base"),
    [
        ([epoch(1)], [], 2, 80),
        ([epoch(1)], [epoch(1)], 2, 80),
        ([epoch(1)], [epoch(1), epoch(2, 50)], 3, 50),
        ([epoch(1)], [epoch(1), epoch(2, 90)], 3, 80),
        ([epoch(1), epoch(2, 60)], [epoch(1)], 3, 80),
        ([epoch(1), epoch(2, 60)], [epoch(1), epoch(2, 60), epoch(3, 70), epoch(4, 65)], 5, 65),
    ],
    ids=["alone", "same", "branch", "later branch", "unheard of", "two restores"],
)
def test_base_is_where_copy_and_others_part(own, known, number, base):
    found = adoption(own, HEAD, Others(tuple(known)))
    assert (found.number, found.base) == (number, base)
    assert found.kept == tuple(own)


def test_two_epochs_of_one_number_part_at_the_older_base_and_the_copys_is_dropped():
    found = adoption([epoch(1), epoch(2, 40, b"a")], HEAD, Others((epoch(1), epoch(2, 60, b"b"))))
    assert (found.number, found.base, found.kept) == (3, 40, (epoch(1),))


def test_number_is_beyond_the_floor():
    assert adoption([epoch(1)], HEAD, Others(floor=7)).number == 8


def events(first, last, number, before):
    found = []
    for seq in range(first, last + 1):
        parts = (bytes(15) + bytes([seq]), "a.b_c", "k", 5, b"{}", b"%d" % seq)
        digest = chain_hash(before.hash, number, seq, *parts)
        found.append(Event("a", number, seq, before.epoch, before.hash, digest, *parts))
        before = found[-1].link
    return found


def test_events_told_again_are_a_whole_chain_from_the_base_with_the_same_content():
    before = events(1, 9, 1, ORIGIN)
    base = before[3].link
    again = told_again(before[4:], 7, base)
    assert [event.body for event in again] == [event.body for event in before[4:]]
    for event in again:
        assert event.epoch == 7
        assert extends(event, base)
        assert intact(event)
        base = event.link


def test_base_is_where_events_of_one_epoch_differ():
    found = adoption([epoch(1)], HEAD, Others((epoch(1),), shared=33))
    assert (found.number, found.base) == (2, 33)


@pytest.mark.parametrize("fork", range(13))
@pytest.mark.parametrize("kept", [0, 5])
def test_shared_is_the_last_event_before_the_histories_differ(fork, kept):
    """`kept`: events that are not kept any more are taken to be the same."""
    mine = events(1, 12, 1, ORIGIN)
    other = mine[:fork] + events(fork + 1, 12, 2, mine[fork - 1].link if fork else ORIGIN)
    found = shared(
        lambda seq: mine[seq - 1].link if seq > kept else None,
        lambda seq: other[seq - 1].link,
        12,
    )
    assert found == (None if fork == 12 else max(fork, kept))


def test_nothing_is_shared_or_differs_in_an_empty_history():
    assert shared(lambda _: None, lambda _: None, 0) is None
