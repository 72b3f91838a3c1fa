"""The delivery of one stream to an inbox, by its rules alone."""

from __future__ import annotations

import pytest

from mesh.buses.contract import ORIGIN, Applied, Cursor, Epoch, Event, Link, Position
from mesh.buses.zmq.protocol import frames, timing
from mesh.buses.zmq.protocol.consumer import step
from mesh.buses.zmq.protocol.subscription import (
    BUFFER_EVENTS_MAX,
    Apply,
    Consumer,
    CursorRead,
    Handled,
    InboxFailed,
    Notice,
    Noticed,
    ReadCursor,
    Start,
)
from tests.buses.histories import FIRST, chain, second

EVENTS = chain(10)
OTHER = chain(10, body=b"other")
SESSION = 5


def cursor(count=0, known=1):
    return Cursor(EVENTS[count - 1].link if count else ORIGIN, known, 0)


def evt(*events):
    return frames.Evt(1, "order", events[-1].link, events)


class Bench:
    def __init__(self):
        self.state = Consumer("product", "order")
        self.now = 0.0

    def feed(self, event):
        self.state, outputs = step(self.state, event, self.now)
        return list(outputs)

    def attach(self, at=0, head=0, epochs=(FIRST,)):
        """Attached with the cursor at event `at` and the bus's head at event `head`."""
        assert self.feed(timing.Begin(SESSION)) == [ReadCursor()]
        (attach,) = sent(self.feed(CursorRead(cursor(at))))
        assert attach.cursor == cursor(at).link
        return self.feed(frames.Attached(SESSION, epochs, cursor(head).link, 1))

    def batch(self, *events, head=10):
        reply = frames.Batch(SESSION, self.state.req, EVENTS[head - 1].link, events)
        return self.feed(reply)

    def done(self, count, retry_after_s=None):
        return self.feed(Handled(Applied(cursor(count), retry_after_s)))


def sent(outputs, shape=None):
    found = [output.frame for output in outputs if isinstance(output, timing.Send)]
    return [frame for frame in found if shape is None or isinstance(frame, shape)]


def applied(outputs):
    return [event.seq for output in outputs if isinstance(output, Apply) for event in output.events]


def test_delivery_is_live_when_cursor_and_head_are_one():
    bench = Bench()
    assert bench.attach(3, 3) == []
    assert bench.state.phase == "live"


def test_delivery_asks_for_what_it_has_missed():
    bench = Bench()
    (get,) = sent(bench.attach(3, 6))
    assert get.after == Position(1, 3)
    assert applied(bench.batch(*EVENTS[3:6], head=6)) == [4, 5, 6]
    assert bench.state.phase == "live"


def test_event_of_the_feed_is_handed_over_at_once_when_it_continues():
    bench = Bench()
    bench.attach(3, 3)
    assert applied(bench.feed(evt(EVENTS[3]))) == [4]


def test_events_are_handed_over_one_batch_at_a_time():
    bench = Bench()
    bench.attach(3, 3)
    assert applied(bench.feed(evt(EVENTS[3]))) == [4]
    assert applied(bench.feed(evt(EVENTS[4], EVENTS[5]))) == []
    assert applied(bench.done(4)) == [5, 6]


def test_events_that_were_seen_already_are_ignored():
    bench = Bench()
    bench.attach(3, 3)
    bench.feed(evt(*EVENTS[3:5]))
    assert bench.feed(evt(*EVENTS[:5])) == []
    bench.done(5)
    assert bench.feed(evt(*EVENTS[3:5])) == []


def test_gap_in_the_feed_is_asked_for_and_what_came_early_is_used():
    bench = Bench()
    bench.attach(3, 3)
    (get,) = sent(bench.feed(evt(EVENTS[5])))
    assert get.after == Position(1, 3)
    assert bench.feed(evt(EVENTS[6])) == []
    assert applied(bench.batch(*EVENTS[3:6], head=6)) == [4, 5, 6, 7]
    assert bench.state.phase == "live"


def test_event_that_shows_a_gap_is_used_when_the_answer_ends_before_it():
    bench = Bench()
    bench.attach(3, 3)
    bench.feed(evt(EVENTS[5]))
    assert applied(bench.batch(*EVENTS[3:5], head=5)) == [4, 5, 6]
    assert bench.state.phase == "live"


def test_what_came_early_is_kept_until_the_gap_before_it_is_closed():
    bench = Bench()
    bench.attach(1, 1)
    bench.feed(evt(*EVENTS[5:8]))
    assert applied(bench.batch(EVENTS[1], head=2)) == [2]
    bench.done(2)
    (get,) = sent(bench.feed(frames.Beat("order", 1, 0, EVENTS[4].link, 1)))
    assert get.after == Position(1, 2)
    assert applied(bench.batch(*EVENTS[2:5], head=5)) == [3, 4, 5, 6, 7, 8]
    assert sent(bench.done(8)) == []


def test_delivery_that_has_more_than_is_durable_asks_for_nothing():
    bench = Bench()
    bench.attach(3, 3)
    assert applied(bench.feed(evt(*EVENTS[3:5]))) == [4, 5]
    assert sent(bench.feed(frames.Beat("order", 1, 0, EVENTS[2].link, 1))) == []
    assert sent(bench.done(5)) == []
    assert sent(bench.feed(frames.Beat("order", 1, 0, EVENTS[2].link, 1))) == []
    assert bench.state.attached
    assert applied(bench.feed(evt(EVENTS[5]))) == [6]


def test_news_without_events_are_asked_for():
    bench = Bench()
    bench.attach(3, 3)
    (get,) = sent(bench.feed(frames.Evt(1, "order", EVENTS[4].link, ())))
    assert get.after == Position(1, 3)


def test_heartbeat_reveals_a_lost_tail():
    bench = Bench()
    bench.attach(3, 3)
    (get,) = sent(bench.feed(frames.Beat("order", 1, 0, EVENTS[3].link, 1)))
    assert get.after == Position(1, 3)


def test_poll_reveals_news_when_the_feed_says_nothing_is_new():
    bench = Bench()
    bench.attach(3, 3)
    for beat in range(1, 9):
        bench.now = beat * 0.25
        assert bench.feed(frames.Beat("order", 1, 0, EVENTS[2].link, 1)) == []
    bench.now = 2.1
    assert sent(bench.feed(timing.Tick()), frames.Get)


def test_conversation_starts_anew_when_three_heartbeats_are_missing():
    bench = Bench()
    bench.attach(3, 3)
    bench.now = 1.9
    assert bench.feed(timing.Tick()) == []
    bench.now = 3.6
    assert bench.feed(timing.Tick()) == [timing.Reconnect(0.0)]


def test_conversation_starts_anew_when_a_question_is_not_answered():
    bench = Bench()
    bench.attach(3, 6)
    bench.now = 1.1
    assert isinstance(bench.feed(timing.Tick())[0], timing.Reconnect)
    assert bench.batch(*EVENTS[3:6]) == []


def test_late_answer_to_an_earlier_question_is_ignored():
    bench = Bench()
    bench.attach(3, 6)
    stale = frames.Batch(SESSION, bench.state.req - 1, EVENTS[9].link, EVENTS[3:6])
    other = frames.Batch(SESSION + 1, bench.state.req, EVENTS[9].link, EVENTS[3:6])
    assert bench.feed(stale) == bench.feed(other) == []


def test_failed_event_is_offered_again_when_the_inbox_said():
    bench = Bench()
    bench.attach(3, 3)
    bench.feed(evt(*EVENTS[3:6]))
    assert applied(bench.done(4, retry_after_s=0.3)) == []
    bench.now = 0.2
    assert applied(bench.feed(timing.Tick())) == []
    bench.now = 0.31
    assert applied(bench.feed(timing.Tick())) == [5, 6]


def test_inbox_is_not_asked_in_a_circle_when_it_does_nothing_and_names_no_time():
    bench = Bench()
    bench.attach(3, 3)
    bench.feed(evt(EVENTS[3]))
    assert applied(bench.done(3)) == []
    bench.now = timing.RETRY_FIRST_S
    assert applied(bench.feed(timing.Tick())) == [4]


def test_cursor_is_read_again_after_growing_waits_when_the_inbox_raises():
    bench = Bench()
    bench.attach(3, 3)
    bench.feed(evt(EVENTS[3]))
    assert bench.feed(InboxFailed()) == [timing.Reconnect(timing.RETRY_FIRST_S)]
    assert bench.feed(timing.Begin(SESSION)) == [ReadCursor()]
    assert bench.feed(InboxFailed()) == [timing.Reconnect(2 * timing.RETRY_FIRST_S)]


def test_conversation_starts_anew_from_the_cursor_when_a_twin_has_moved_it():
    bench = Bench()
    bench.attach(3, 3)
    bench.feed(evt(*EVENTS[3:5]))
    assert bench.done(8) == [timing.Reconnect(0.0)]
    assert bench.feed(timing.Begin(SESSION)) == [ReadCursor()]
    (attach,) = sent(bench.feed(CursorRead(cursor(8))))
    assert attach.cursor == EVENTS[7].link


def test_new_conversation_waits_for_what_is_being_applied():
    bench = Bench()
    bench.attach(3, 3)
    bench.feed(evt(*EVENTS[3:5]))
    bench.feed(timing.Reborn())
    assert bench.feed(timing.Begin(SESSION)) == []
    (attach,) = sent(bench.done(5))
    assert attach.cursor == EVENTS[4].link


def test_delivery_waits_when_the_bus_is_behind_and_goes_on_when_it_catches_up():
    bench = Bench()
    assert bench.attach(5, 2) == []
    assert bench.state.phase == "waiting"
    assert bench.feed(evt(*EVENTS[2:4])) == []
    assert applied(bench.feed(evt(*EVENTS[4:7]))) == [6, 7]
    assert bench.state.phase == "live"


def test_delivery_is_fenced_when_the_bus_catches_up_with_another_history():
    bench = Bench()
    bench.attach(3, 2)
    bench.feed(frames.Beat("order", 1, 0, OTHER[2].link, 1))
    assert bench.state.fence.startswith("FORK")


def test_delivery_is_fenced_when_what_follows_continues_another_history():
    bench = Bench()
    bench.attach(3, 6)
    assert bench.batch(*OTHER[3:6]) == []
    assert bench.state.fence.startswith("FORK: event 4")
    assert applied(bench.feed(evt(EVENTS[3]))) == []


def test_delivery_is_fenced_when_an_event_is_damaged_at_the_bus():
    bench = Bench()
    bench.attach(3, 6)
    harmed = Event(*(getattr(EVENTS[3], name) for name in Event.__struct_fields__[:-1]), b"!")
    assert bench.batch(harmed) == []
    assert bench.state.fence.startswith("DAMAGED: event 4")


def test_damaged_event_of_the_feed_is_asked_for_again():
    bench = Bench()
    bench.attach(3, 3)
    harmed = Event(*(getattr(EVENTS[3], name) for name in Event.__struct_fields__[:-1]), b"!")
    assert sent(bench.feed(evt(harmed)), frames.Get)
    assert applied(bench.batch(EVENTS[3], head=4)) == [4]


@pytest.mark.parametrize("reason", ["TRIMMED", "FORK", "AUTH"])
def test_delivery_is_fenced_when_the_bus_refuses_it(reason):
    bench = Bench()
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(cursor(3)))
    assert bench.feed(frames.Reset(SESSION, reason)) == []
    assert bench.state.fence.startswith(reason)
    assert bench.feed(timing.Reborn()) == [timing.Reconnect(0.0)]


@pytest.mark.parametrize(
    ("reason", "req", "what"),
    [
        ("PROTO", 1, "attaches again"),
        ("TRIMMED", 1, "attaches again"),  # the question may be older than the cursor is now
        ("FORK", 1, "is fenced"),
        ("AUTH", 1, "is fenced"),
        ("PROTO", 0, "goes on"),  # answers to an ATTACH that was answered before
        ("TRIMMED", 0, "goes on"),
        ("TRIMMED", 2, "goes on"),
    ],
)
def test_delivery_that_is_reset_while_it_asks(reason, req, what):
    bench = Bench()
    bench.attach(3, 6)
    outputs = bench.feed(frames.Reset(SESSION, reason, req))
    assert bool(bench.state.fence) is (what == "is fenced")
    assert bool(outputs) is (what == "attaches again")
    assert all(isinstance(each, timing.Reconnect) for each in outputs)


def test_delivery_does_not_hear_a_reset_when_it_asks_nothing():
    bench = Bench()
    bench.attach(3, 3)
    before = bench.state
    for reason in ("PROTO", "TRIMMED", "FORK", "AUTH"):
        assert bench.feed(frames.Reset(SESSION, reason)) == []
        assert bench.state == before


def test_first_epoch_is_noted_before_anything_is_applied():
    bench = Bench()
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(cursor(0, known=0)))
    outputs = bench.feed(frames.Attached(SESSION, (FIRST,), EVENTS[2].link, 1))
    assert outputs == [Notice(FIRST, ORIGIN)]
    assert applied(bench.feed(evt(EVENTS[0]))) == []
    assert sent(bench.feed(Noticed(cursor(0))), frames.Get)


def test_newer_epoch_in_a_heartbeat_leads_back_to_its_base():
    bench = Bench()
    bench.attach(5, 5)
    new = second(EVENTS[2].link)
    fresh = chain(3, after=EVENTS[2].link, epoch=2)
    assert bench.feed(frames.Beat("order", 2, 3, EVENTS[2].link, 1)) == [timing.Reconnect(0.0)]
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(cursor(5)))
    outputs = bench.feed(frames.Attached(SESSION, (FIRST, new), fresh[-1].link, 1))
    assert outputs == [Notice(new, EVENTS[2].link)]
    back = Cursor(EVENTS[2].link, 2, 3)
    (get,) = sent(bench.feed(Noticed(back)))
    assert get.after == Position(1, 3)
    reply = frames.Batch(SESSION, get.req, fresh[-1].link, fresh)
    assert applied(bench.feed(reply)) == [4, 5, 6]


def test_every_missed_epoch_is_noted_in_turn():
    bench = Bench()
    new, third = second(EVENTS[2].link), Epoch(3, 4, b"h" * 16, b"third")
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(cursor(8)))
    head = Link(2, 4, b"h" * 16)
    outputs = bench.feed(frames.Attached(SESSION, (FIRST, new, third), head, 1))
    assert outputs == [Notice(new, EVENTS[2].link)]
    assert bench.feed(Noticed(Cursor(EVENTS[2].link, 2, 3))) == [Notice(third, head)]


def test_replaced_events_are_never_taken():
    bench = Bench()
    new = second(EVENTS[2].link)
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(Cursor(EVENTS[2].link, 2, 3)))
    bench.feed(frames.Attached(SESSION, (FIRST, new), EVENTS[2].link, 1))
    assert bench.state.phase == "live"
    assert bench.feed(evt(*EVENTS[3:5])) == []
    assert bench.state.buffer == ()


def test_event_of_an_unknown_epoch_leads_to_a_new_attachment():
    bench = Bench()
    bench.attach(3, 3)
    fresh = chain(1, after=EVENTS[2].link, epoch=2)
    assert bench.feed(evt(*fresh)) == [timing.Reconnect(0.0)]
    assert bench.state.buffer == ()


def test_notice_that_changes_nothing_is_a_failure_and_no_circle():
    bench = Bench()
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(cursor(0, known=0)))
    bench.feed(frames.Attached(SESSION, (FIRST,), ORIGIN, 1))
    assert isinstance(bench.feed(Noticed(cursor(0, known=0)))[0], timing.Reconnect)


def test_buffer_is_bounded_and_the_rest_is_asked_for_when_there_is_room():
    bench = Bench()
    many = chain(BUFFER_EVENTS_MAX + 100)
    bench.attach(0, 0)
    outputs = bench.feed(evt(*many))
    assert len(bench.state.buffer) == BUFFER_EVENTS_MAX
    assert not sent(outputs, frames.Get)
    assert not bench.state.hungry
    done = 0
    while done < BUFFER_EVENTS_MAX // 2:
        done += len(applied(outputs))
        outputs = bench.feed(Handled(Applied(Cursor(many[done - 1].link, 1, 0))))
    (get,) = sent(outputs, frames.Get)
    assert get.after == Position(1, BUFFER_EVENTS_MAX)


def test_cursor_is_reported_at_most_ten_times_a_second():
    bench = Bench()
    bench.attach(3, 3)
    bench.feed(evt(EVENTS[3]))
    assert not sent(bench.done(4))
    bench.now = 0.11
    (committed,) = sent(bench.feed(timing.Tick()))
    assert committed == frames.Committed(SESSION, "order", Position(1, 4), 1)
    bench.now = 0.15
    bench.feed(evt(EVENTS[4]))
    assert not sent(bench.done(5))


def begin(tail):
    """At the origin, attached to a stream of which events from `tail` on are kept."""
    bench = Bench()
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(cursor(0)))
    bench.feed(frames.Attached(SESSION, (FIRST,), cursor(10).link, tail))
    return bench


def test_delivery_that_is_new_begins_with_the_oldest_event_there_is():
    bench = begin(tail=5)
    assert bench.batch(*EVENTS[4:]) == [Start(EVENTS[3].link)]
    (get,) = sent(bench.feed(CursorRead(cursor(4))))
    assert get.after == Position(1, 4)
    assert applied(bench.batch(*EVENTS[4:])) == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("tail", "events"),
    [(1, EVENTS[4:]), (3, EVENTS[4:]), (5, OTHER[5:]), (5, ())],
    ids=["nothing was trimmed", "more is missing than was trimmed", "not the oldest", "nothing"],
)
def test_hole_at_the_beginning_is_damage(tail, events):
    bench = begin(tail)
    assert bench.batch(*events) == []
    assert bench.state.fence.startswith("DAMAGED")


def test_hole_beyond_the_cursor_is_damage_wherever_the_tail_is():
    bench = Bench()
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(cursor(2)))
    bench.feed(frames.Attached(SESSION, (FIRST,), cursor(10).link, 5))
    assert bench.batch(*EVENTS[4:]) == []
    assert bench.state.fence.startswith("DAMAGED")


def test_delivery_that_needs_what_is_kept_no_more_says_so():
    bench = Bench()
    bench.feed(timing.Begin(SESSION))
    bench.feed(CursorRead(cursor(2)))
    bench.feed(frames.Reset(SESSION, "TRIMMED"))
    assert "no longer holds event 3 of order" in bench.state.fence
    assert "restored from a newer backup" in bench.state.fence
