"""What the bus does with one stream, by its rules alone."""

from __future__ import annotations

import pytest

from mesh.buses.contract import ORIGIN, Epoch, Link, Position
from mesh.buses.zmq.protocol import frames
from mesh.buses.zmq.protocol.broker import beat, step
from mesh.buses.zmq.protocol.stream import (
    Advance,
    Advanced,
    Append,
    Appended,
    Failed,
    Gone,
    LogRead,
    Outlived,
    Publish,
    Quarantine,
    ReadLog,
    Received,
    Record,
    Reply,
    Stream,
    Trim,
)
from tests.buses.histories import FIRST, chain, second

EVENTS = chain(10)
OTHER = chain(10, body=b"other")
PEER = b"peer"


class Bench:
    """A stream whose commits succeed when told to."""

    def __init__(self):
        self.state = Stream("order")
        self.now = 0.0

    def feed(self, event):
        self.state, outputs = step(self.state, event, self.now)
        return list(outputs)

    def hear(self, frame, peer=PEER):
        return self.feed(Received(peer, frame))

    def hello(self, head, *, session=1, req=1, epochs=(FIRST,), peer=PEER):
        return self.hear(frames.Hello(session, req, "order", epochs, head, 1), peer)

    def open(self, count=0, session=1):
        """A stream that holds `count` events durably, with one producer."""
        (advance,) = self.hello(EVENTS[-1].link, session=session)
        self.feed(Advanced(advance.head))
        if count:
            self.put(*EVENTS[:count], session=session)
            self.feed(Appended(EVENTS[count - 1].link))
        return self

    def put(self, *events, session=1, peer=PEER):
        return self.hear(frames.Put(session, events), peer)


def replies(outputs, shape=None):
    found = [output.frame for output in outputs if isinstance(output, Reply)]
    return [frame for frame in found if shape is None or isinstance(frame, shape)]


def test_stream_is_welcome_only_when_its_first_epoch_is_durable():
    bench = Bench()
    assert bench.hello(ORIGIN) == [Advance((FIRST,), ORIGIN)]
    assert bench.put(EVENTS[0]) == [Reply(PEER, frames.Nak(1, "EPOCH", ORIGIN))]
    (welcome,) = replies(bench.feed(Advanced(ORIGIN)))
    assert (welcome.head, welcome.session, welcome.req) == (ORIGIN, 1, 1)


def test_event_is_shown_when_it_is_taken_and_acknowledged_only_when_durable():
    bench = Bench().open()
    assert bench.put(*EVENTS[:3]) == [Append(EVENTS[:3]), Publish(EVENTS[:3])]
    assert beat(bench.state).head == ORIGIN
    outputs = bench.feed(Appended(EVENTS[2].link))
    assert outputs == [Reply(PEER, frames.Ack(1, Position(1, 3)))]
    assert beat(bench.state) == frames.Beat("order", 1, 0, EVENTS[2].link, 1)


def test_event_is_acknowledged_again_and_not_appended_when_it_comes_twice():
    bench = Bench().open(3)
    assert bench.put(*EVENTS[:3]) == [Reply(PEER, frames.Ack(1, Position(1, 3)))]


def test_event_is_taken_once_when_it_comes_again_during_the_commit():
    bench = Bench().open()
    bench.put(*EVENTS[:3])
    assert bench.put(*EVENTS[:5]) == [Append(EVENTS[3:5]), Publish(EVENTS[3:5])]


def test_gap_is_refused_with_the_durable_head_and_at_most_ten_times_a_second():
    bench = Bench().open(2)
    assert bench.put(*EVENTS[4:6]) == [Reply(PEER, frames.Nak(1, "GAP", EVENTS[1].link))]
    assert bench.put(*EVENTS[6:7]) == []
    bench.now = 0.11
    assert len(bench.put(*EVENTS[6:7])) == 1


@pytest.mark.parametrize("event", [OTHER[2], OTHER[3]], ids=["another event there", "another past"])
def test_stream_is_quarantined_when_the_history_parts(event):
    bench = Bench().open(3)
    quarantine, fenced = bench.put(event)
    assert isinstance(quarantine, Quarantine)
    assert (fenced.frame.reason, fenced.frame.req) == ("FORK", 0)
    assert replies(bench.put(EVENTS[3]), frames.Fenced)
    assert bench.state.head == EVENTS[2].link
    assert replies(bench.hello(EVENTS[-1].link, session=2), frames.Fenced)


def test_damaged_event_is_refused_without_quarantine():
    bench = Bench().open(1)
    harmed = chain(1, after=EVENTS[0].link, body=b"[]")[0]
    harmed = type(harmed)(
        *(getattr(harmed, name) for name in harmed.__struct_fields__[:-1]), b"{ }"
    )
    (fenced,) = replies(bench.put(harmed))
    assert "does not match its hash" in fenced.detail
    assert bench.state.quarantined == ""


def test_event_of_an_unannounced_epoch_is_refused():
    bench = Bench().open(2)
    (nak,) = replies(bench.put(*chain(1, after=EVENTS[1].link, epoch=2)))
    assert nak.reason == "EPOCH"


def test_put_is_told_to_greet_when_its_session_is_not_known():
    bench = Bench().open(2)
    assert replies(bench.put(EVENTS[2], session=9)) == [frames.Nak(9, "EPOCH", EVENTS[1].link)]
    bench.now = 1.0
    assert replies(bench.put(EVENTS[2], peer=b"other"))[0].reason == "EPOCH"


def test_old_hello_is_rechecked_before_anybody_is_fenced():
    bench = Bench().open(5)
    assert replies(bench.hello(EVENTS[2].link, session=2)) == [frames.Recheck(2, 1, EVENTS[4].link)]
    assert replies(bench.put(EVENTS[5], session=2))[0].reason == "EPOCH"
    (welcome,) = replies(bench.hello(EVENTS[6].link, session=2, req=2))
    assert isinstance(welcome, frames.Welcome)


def test_producer_is_fenced_as_behind_when_a_fresh_reading_is_behind_too():
    bench = Bench().open(5)
    bench.hello(EVENTS[2].link, session=2)
    (fenced,) = replies(bench.hello(EVENTS[2].link, session=2, req=2))
    assert (fenced.reason, fenced.req) == ("BEHIND", 2)
    assert "ends at event 3" in fenced.detail
    assert bench.state.quarantined == ""


def test_copies_of_an_answered_hello_fence_nobody():
    bench = Bench().open(1)
    for _ in range(3):
        (again,) = replies(bench.hello(ORIGIN, session=1, req=1))
        assert isinstance(again, frames.Welcome)
    bench.hello(ORIGIN, session=2)
    for _ in range(3):
        (again,) = replies(bench.hello(ORIGIN, session=2))
        assert isinstance(again, frames.Recheck)
    bench.hello(EVENTS[0].link, session=2, req=2)
    assert bench.hello(ORIGIN, session=2, req=1) == []


def test_hello_of_the_same_place_with_another_hash_is_a_fork():
    bench = Bench().open(3)
    quarantine, fenced = bench.hello(OTHER[2].link, session=2)
    assert isinstance(quarantine, Quarantine)
    assert fenced.frame.reason == "FORK"


def test_hello_is_refused_when_its_epoch_is_another_one_of_that_number():
    bench = Bench().open(3)
    stranger = (Epoch(1, 0, FIRST.base_hash, b"stranger"),)
    (fenced,) = replies(bench.hello(OTHER[9].link, session=2, epochs=stranger))
    assert fenced.reason == "FORK"
    assert bench.state.quarantined == ""


def test_hello_is_refused_when_the_bus_knows_a_newer_epoch():
    bench = Bench().open(3)
    epochs = (FIRST, second(EVENTS[1].link))
    (advance,) = bench.hello(EVENTS[1].link, session=2, epochs=epochs)
    bench.feed(Advanced(advance.head))
    (fenced,) = replies(bench.hello(EVENTS[2].link, session=3))
    assert fenced.reason == "OLD_EPOCH"


@pytest.mark.parametrize("numbers", [(), (0,), (2, 1), (1, 1)])
def test_hello_is_refused_when_its_epochs_are_out_of_order(numbers):
    bench = Bench()
    epochs = tuple(Epoch(number, 0, FIRST.base_hash, b"n") for number in numbers)
    (fenced,) = replies(bench.hello(ORIGIN, epochs=epochs))
    assert fenced.reason == "PROTO"
    assert bench.state == Stream("order")


def test_new_epoch_cuts_the_log_back_to_its_base():
    bench = Bench().open(5)
    new = second(EVENTS[2].link)
    assert bench.hello(EVENTS[2].link, session=2, epochs=(FIRST, new)) == [
        Advance((new,), EVENTS[2].link)
    ]
    (welcome,) = replies(bench.feed(Advanced(EVENTS[2].link)))
    assert welcome.head == EVENTS[2].link
    assert replies(bench.put(EVENTS[3], session=2))[0].reason == "EPOCH"
    fresh = chain(2, after=EVENTS[2].link, epoch=2)
    assert bench.put(*fresh, session=2) == [Append(fresh), Publish(fresh)]
    assert bench.put(EVENTS[1], session=2) == [Reply(PEER, frames.Ack(2, Position(1, 3)))]


def test_new_epoch_leaves_a_shorter_log_as_it_is():
    bench = Bench().open(2)
    new = second(EVENTS[4].link)
    assert bench.hello(EVENTS[4].link, session=2, epochs=(FIRST, new)) == [
        Advance((new,), EVENTS[1].link)
    ]
    bench.feed(Advanced(EVENTS[1].link))
    assert bench.put(*EVENTS[2:5], session=2) == [Append(EVENTS[2:5]), Publish(EVENTS[2:5])]


def test_two_new_epochs_are_applied_one_after_the_other():
    bench = Bench().open(8)
    new = second(EVENTS[3].link)
    third = Epoch(3, 6, b"h" * 16, b"third")
    (advance,) = bench.hello(Link(2, 6, b"h" * 16), session=2, epochs=(FIRST, new, third))
    assert advance == Advance((new, third), EVENTS[3].link)


def test_new_epoch_waits_for_the_commit_under_way():
    bench = Bench().open(2)
    bench.put(*EVENTS[2:4])
    new = second(EVENTS[2].link)
    assert bench.hello(EVENTS[2].link, session=2, epochs=(FIRST, new)) == []
    outputs = bench.feed(Appended(EVENTS[3].link))
    assert outputs[-1] == Advance((new,), EVENTS[2].link)


def test_new_epoch_opens_a_quarantined_stream():
    bench = Bench().open(3)
    bench.put(OTHER[3])
    new = second(EVENTS[2].link)
    bench.hello(EVENTS[2].link, session=2, epochs=(FIRST, new))
    assert replies(bench.feed(Advanced(EVENTS[2].link)), frames.Welcome)
    assert bench.state.quarantined == ""


def test_stream_is_quarantined_when_the_log_has_another_hash_at_the_base():
    bench = Bench().open(5)
    bench.hello(OTHER[2].link, session=2, epochs=(FIRST, second(OTHER[2].link)))
    outputs = bench.feed(Advanced(EVENTS[2].link))
    assert isinstance(outputs[0], Quarantine)
    assert bench.state.head == EVENTS[4].link


def test_everything_staged_is_given_up_when_there_is_no_space():
    bench = Bench().open(2)
    bench.put(*EVENTS[2:4])
    assert replies(bench.feed(Failed())) == [frames.Nak(1, "NOSPACE", EVENTS[1].link)]
    assert bench.state.full
    assert bench.put(*EVENTS[2:3]) == [Append(EVENTS[2:3]), Publish(EVENTS[2:3])]
    bench.feed(Appended(EVENTS[2].link))
    assert not bench.state.full


def test_peer_is_forgotten_when_it_cannot_be_reached():
    bench = Bench().open(2)
    bench.feed(Gone(PEER))
    assert bench.feed(Appended(EVENTS[2].link)) == []


def test_ping_is_answered_only_in_a_known_session():
    bench = Bench().open()
    assert replies(bench.hear(frames.Ping(1))) == [frames.Pong(1)]
    assert replies(bench.hear(frames.Ping(2)))[0].reason == "EPOCH"


def attach(bench, cursor=ORIGIN):
    return bench.hear(frames.Attach(5, "product", "order", cursor, 1))


def get(after, rows_max=1000, session=5):
    return frames.Get(session, 3, "order", Position(1, after), rows_max, 10**9)


def test_consumer_is_shown_lineage_and_head_when_it_attaches():
    bench = Bench().open(4)
    (attached,) = replies(attach(bench))
    assert attached == frames.Attached(5, (FIRST,), EVENTS[3].link, 1)


def test_consumer_of_an_unknown_stream_is_attached_to_nothing():
    assert replies(attach(Bench())) == [frames.Attached(5, (), ORIGIN, 1)]


def test_question_is_bounded_by_the_durable_head():
    bench = Bench().open(4)
    attach(bench)
    bench.put(*EVENTS[4:6])
    (read,) = bench.hear(get(1))
    assert isinstance(read, ReadLog)
    assert (read.get.rows_max, read.get.bytes_max) == (3, 768 * 1024)
    (batch,) = replies(bench.feed(LogRead(PEER, read.get, EVENTS[1:4])))
    assert batch == frames.Batch(5, 3, EVENTS[3].link, EVENTS[1:4])


def test_question_is_answered_at_once_when_there_is_nothing_new():
    bench = Bench().open(4)
    attach(bench)
    assert replies(bench.hear(get(4))) == [frames.Batch(5, 3, EVENTS[3].link, ())]


def test_question_of_what_is_shown_and_not_durable_waits_for_the_commit():
    bench = Bench().open(2)
    attach(bench)
    bench.put(*EVENTS[2:4])
    assert bench.hear(get(2)) == []
    (_, read) = bench.feed(Appended(EVENTS[2].link))
    assert (read.get.after, read.get.rows_max) == (Position(1, 2), 1)
    assert bench.hear(get(3)) == []
    outputs = bench.feed(Appended(EVENTS[3].link))
    assert [each.get.after.seq for each in outputs if isinstance(each, ReadLog)] == [3]
    assert bench.feed(Appended(EVENTS[3].link)) == [Reply(PEER, frames.Ack(1, Position(1, 4)))]


def test_question_goes_on_waiting_when_the_commit_was_of_what_it_has_already():
    bench = Bench().open(2)
    attach(bench)
    bench.put(*EVENTS[2:4])
    assert bench.hear(get(3)) == []
    assert replies(bench.feed(Appended(EVENTS[2].link))) == [frames.Ack(1, Position(1, 3))]
    (_, read) = bench.feed(Appended(EVENTS[3].link))
    assert isinstance(read, ReadLog)


def test_question_that_waits_is_answered_with_nothing_when_there_is_no_space():
    bench = Bench().open(2)
    attach(bench)
    bench.put(*EVENTS[2:4])
    bench.hear(get(2))
    assert replies(bench.feed(Failed()), frames.Batch) == [frames.Batch(5, 3, EVENTS[1].link, ())]


def test_question_beyond_what_is_shown_is_answered_at_once():
    bench = Bench().open(2)
    attach(bench)
    bench.put(*EVENTS[2:4])
    assert replies(bench.hear(get(4))) == [frames.Batch(5, 3, EVENTS[1].link, ())]


def test_question_of_an_unknown_session_must_attach_again():
    bench = Bench().open(4)
    assert replies(bench.hear(get(1))) == [frames.Reset(5, "PROTO", 3)]


def test_consumer_is_reset_when_what_it_needs_is_trimmed():
    bench = Bench().open(4)
    bench.state = type(bench.state)(
        **{name: getattr(bench.state, name) for name in bench.state.__struct_fields__}
        | {"tail_seq": 3}
    )
    assert replies(attach(bench, EVENTS[0].link)) == [frames.Reset(5, "TRIMMED")]
    assert replies(attach(bench, EVENTS[1].link), frames.Attached)
    assert replies(bench.hear(get(1))) == [frames.Reset(5, "TRIMMED", 3)]


def test_consumer_at_the_origin_is_given_what_there_still_is():
    bench = Bench().open(6)
    bench.feed(Outlived(3))
    assert replies(attach(bench, ORIGIN), frames.Attached)
    (read,) = bench.hear(get(0))
    assert read.get.after.seq == 3


def test_cursor_is_recorded_under_the_name_that_attached():
    bench = Bench().open(4)
    attach(bench)
    committed = frames.Committed(5, "order", Position(1, 2), 1)
    assert bench.hear(committed) == [Record("product", Position(1, 2), 1)]
    assert bench.hear(frames.Committed(6, "order", Position(1, 2), 1)) == []


def test_consumer_that_attaches_is_recorded_where_it_says_it_is():
    bench = Bench().open(3)
    outputs = bench.hear(frames.Attach(4, "product", "order", EVENTS[1].link, 1))
    assert outputs[0] == Record("product", Position(1, 2), 1)


@pytest.mark.parametrize(
    ("asked", "trimmed", "tail"),
    [(3, [Trim(3)], 4), (4, [Trim(4)], 5), (99, [Trim(4)], 5), (0, [], 1)],
    ids=["up to there", "all but the head", "never the head", "nothing"],
)
def test_tail_moves_before_anything_is_removed(asked, trimmed, tail):
    bench = Bench().open(5)
    assert bench.feed(Outlived(asked)) == trimmed
    assert (bench.state.tail_seq, beat(bench.state).tail_seq) == (tail, tail)
    assert bench.feed(Outlived(asked)) == [], "once"


def test_nobody_is_served_a_hole_once_the_tail_has_moved():
    bench = Bench().open(5)
    bench.hear(frames.Attach(4, "product", "order", EVENTS[0].link, 1))
    bench.feed(Outlived(3))
    get = frames.Get(4, 1, "order", Position(1, 1), 10, 10**6)
    assert replies(bench.hear(get)) == [frames.Reset(4, "TRIMMED", 1)]
    get = frames.Get(4, 2, "order", Position(1, 3), 10, 10**6)
    (read,) = bench.hear(get)
    assert isinstance(read, ReadLog)


def test_nothing_is_trimmed_while_an_epoch_begins():
    bench = Bench().open(5)
    bench.hello(EVENTS[1].link, session=2, epochs=(FIRST, second(EVENTS[1].link)))
    assert bench.feed(Outlived(3)) == []


def before(seq):
    return frames.Hello(
        1, 1, "order", (FIRST,), EVENTS[-1].link, seq + 1, before=EVENTS[seq - 1].link
    )


def test_unknown_stream_begins_where_its_outbox_does():
    bench = Bench()
    assert bench.hear(before(6)) == [Advance((FIRST,), EVENTS[5].link)]
    (welcome,) = replies(bench.feed(Advanced(EVENTS[5].link)))
    assert (welcome.head, bench.state.tail_seq) == (EVENTS[5].link, 7)
    assert bench.put(*EVENTS[6:8]) == [Append(EVENTS[6:8]), Publish(EVENTS[6:8])]
    bench.feed(Appended(EVENTS[7].link))
    attach = frames.Attach(4, "product", "order", EVENTS[3].link, 1)
    assert replies(bench.hear(attach)) == [frames.Reset(4, "TRIMMED")]
    attach = frames.Attach(4, "product", "order", EVENTS[5].link, 1)
    assert isinstance(replies(bench.hear(attach))[0], frames.Attached)


def test_another_greeting_meanwhile_does_not_move_where_a_stream_begins():
    bench = Bench()
    bench.hear(before(6))
    bench.hear(before(8), peer=b"twin")
    bench.feed(Advanced(EVENTS[5].link))
    assert bench.state.head == EVENTS[5].link
    assert bench.state.quarantined == ""


def test_known_stream_does_not_jump_to_where_an_outbox_begins():
    bench = Bench().open(3)
    (welcome,) = replies(bench.hear(before(6)))
    assert welcome.head == EVENTS[2].link


def test_outbox_that_begins_beyond_its_head_is_refused():
    hello = frames.Hello(1, 1, "order", (FIRST,), EVENTS[1].link, 4, before=EVENTS[2].link)
    (fenced,) = replies(Bench().hear(hello))
    assert fenced.reason == "PROTO"
