"""The relay of an outbox, by its rules alone."""

from __future__ import annotations

from mesh.buses.contract import ORIGIN, Epoch, Link, OutboxState, Position
from mesh.buses.zmq.protocol import frames, timing
from mesh.buses.zmq.protocol.producer import (
    Acknowledged,
    Producer,
    ReadFailed,
    ReadOutbox,
    ReadState,
    Rows,
    StateRead,
    step,
)
from tests.buses.histories import FIRST, chain

EVENTS = chain(10)
SESSION = 7


class Bench:
    """The relay with an outbox that answers at once when asked to."""

    def __init__(self, events=EVENTS):
        self.state = Producer("order")
        self.events = events
        self.now = 0.0
        self.outputs = []

    def feed(self, event):
        self.state, outputs = step(self.state, event, self.now)
        self.outputs = list(outputs)
        return self.outputs

    def read(self):
        """Answer what was last asked of the outbox."""
        for output in self.outputs:
            match output:
                case ReadState(session, req):
                    head = self.events[-1].link if self.events else ORIGIN
                    return self.feed(StateRead(session, req, OutboxState((FIRST,), head, 1)))
                case ReadOutbox(after, rows_max):
                    return self.feed(Rows(after, self.events[after : after + rows_max]))
        raise AssertionError(self.outputs)

    def greet(self):
        self.feed(timing.Begin(SESSION))
        (hello,) = sent(self.read())
        return hello

    def stream(self, head=ORIGIN, credit=100):
        hello = self.greet()
        return self.feed(frames.Welcome(SESSION, hello.req, head, credit, 10**7))


def sent(outputs):
    return [output.frame for output in outputs if isinstance(output, timing.Send)]


def numbers(outputs):
    puts = [frame for frame in sent(outputs) if isinstance(frame, frames.Put)]
    return [event.seq for put in puts for event in put.events]


def test_relay_says_hello_with_its_whole_lineage_first():
    bench = Bench()
    hello = bench.greet()
    assert hello == frames.Hello(SESSION, 1, "order", (FIRST,), EVENTS[-1].link, 1)


def test_relay_goes_on_from_the_head_of_the_bus_when_welcome():
    bench = Bench()
    outputs = bench.stream(EVENTS[3].link)
    assert Acknowledged(Position(1, 4)) in outputs
    assert numbers(bench.read()) == [5, 6, 7, 8, 9, 10]


def test_relay_sends_no_more_than_its_credit():
    bench = Bench()
    bench.stream(credit=4)
    outputs = bench.read()
    assert numbers(outputs) == [1, 2, 3, 4]
    assert not [each for each in outputs if isinstance(each, ReadOutbox)]
    outputs = bench.feed(frames.Ack(SESSION, Position(1, 3)))
    assert Acknowledged(Position(1, 3)) in outputs
    assert numbers(bench.read()) == [5, 6, 7]


def test_relay_sends_no_more_bytes_than_its_credit():
    bench = Bench(chain(10, body=b"x" * 1000))
    hello = bench.greet()
    bench.feed(frames.Welcome(SESSION, hello.req, ORIGIN, 100, 3000))
    (asked,) = bench.outputs
    assert asked == ReadOutbox(0, 100, 3000)
    bench.feed(Rows(0, bench.events[:3]))
    assert not [each for each in bench.outputs if isinstance(each, ReadOutbox)]
    (asked,) = [
        each
        for each in bench.feed(frames.Ack(SESSION, Position(1, 3)))
        if isinstance(each, ReadOutbox)
    ]
    assert asked.after == 3


def test_relay_goes_back_when_the_bus_has_a_gap():
    bench = Bench()
    bench.stream()
    bench.read()
    outputs = bench.feed(frames.Nak(SESSION, "GAP", EVENTS[1].link))
    assert [output.after for output in outputs] == [2]
    assert numbers(bench.read())[0] == 3


def test_relay_sends_again_after_a_second_without_progress():
    bench = Bench()
    bench.stream()
    bench.read()
    bench.now = 0.9
    assert not numbers(bench.feed(timing.Tick()))
    bench.now = 1.1
    bench.feed(timing.Tick())
    assert numbers(bench.read())[0] == 1


def test_relay_reads_afresh_in_the_same_session_when_rechecked():
    bench = Bench(EVENTS[:5])
    hello = bench.greet()
    bench.events = EVENTS
    bench.feed(frames.Recheck(SESSION, hello.req, EVENTS[6].link))
    (again,) = sent(bench.read())
    assert (again.session, again.req, again.head) == (SESSION, 2, EVENTS[-1].link)
    assert bench.feed(frames.Welcome(SESSION, 1, ORIGIN, 9, 9)) == []
    assert bench.feed(frames.Welcome(SESSION, 2, EVENTS[6].link, 9, 999))


def test_relay_ignores_every_frame_of_another_session():
    bench = Bench()
    bench.stream()
    bench.read()
    before = bench.state
    for frame in (
        frames.Ack(8, Position(1, 5)),
        frames.Nak(8, "GAP", ORIGIN),
        frames.Fenced(8, 0, "FORK", ""),
        frames.Recheck(8, 1, ORIGIN),
        frames.Welcome(8, 1, ORIGIN, 9, 9),
        frames.Pong(8),
    ):
        assert bench.feed(frame) == []
    assert bench.state == before


def test_relay_stops_when_fenced_until_the_bus_is_born_again():
    bench = Bench()
    hello = bench.greet()
    assert bench.feed(frames.Fenced(SESSION, hello.req, "BEHIND", "older")) == []
    assert bench.state.fence == "BEHIND: older"
    bench.now = 100.0
    assert bench.feed(timing.Tick()) == bench.feed(timing.Grown()) == []
    assert bench.feed(timing.Reborn()) == [timing.Reconnect(0.0)]
    assert bench.state.fence == ""


def test_relay_heeds_no_fence_of_an_earlier_hello_when_streaming():
    bench = Bench()
    bench.stream()
    assert bench.feed(frames.Fenced(SESSION, 1, "BEHIND", "")) == []
    assert bench.state.phase == "streaming"


def test_relay_greets_anew_when_the_bus_does_not_know_it():
    bench = Bench()
    bench.stream()
    bench.read()
    assert bench.feed(frames.Nak(SESSION, "EPOCH", ORIGIN)) == [timing.Reconnect(0.0)]


def test_relay_waits_before_it_tries_again_when_there_is_no_space():
    bench = Bench()
    bench.stream()
    bench.read()
    bench.feed(frames.Nak(SESSION, "NOSPACE", ORIGIN))
    assert bench.outputs == []
    assert bench.feed(frames.Nak(SESSION, "GAP", ORIGIN)) == []
    bench.now = timing.PAUSE_S + 0.01
    bench.feed(timing.Tick())
    assert numbers(bench.read())[0] == 1


def test_relay_pings_when_it_hears_nothing_and_gives_up_after_three():
    bench = Bench([])
    bench.stream()
    bench.read()
    bench.now = 3.1
    assert sent(bench.feed(timing.Tick())) == [frames.Ping(SESSION)]
    bench.feed(frames.Pong(SESSION))
    bench.now = 6.0
    assert bench.feed(timing.Tick()) == []
    bench.now = 13.2
    assert isinstance(bench.feed(timing.Tick())[0], timing.Reconnect)


def test_relay_waits_longer_each_time_when_nobody_answers():
    bench = Bench()
    waits = []
    for _ in range(6):
        bench.greet()
        bench.now += 1.1
        (again,) = bench.feed(timing.Tick())
        waits.append(again.after_s)
    assert waits == sorted(waits)
    assert waits[-1] == timing.BACKOFF_MAX_S


def test_relay_starts_over_after_growing_waits_when_the_outbox_cannot_be_read():
    bench = Bench()
    waits = []
    for _ in range(3):
        bench.feed(timing.Begin(SESSION))
        (again,) = bench.feed(ReadFailed())
        waits.append(again.after_s)
    for _ in range(2):
        bench.stream()
        (again,) = bench.feed(ReadFailed())
        waits.append(again.after_s)
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8]
    bench.stream()
    bench.read()
    assert bench.feed(ReadFailed()) == [timing.Reconnect(0.05)]


def test_relay_is_fenced_when_the_outbox_has_dropped_what_the_bus_needs():
    bench = Bench()
    bench.stream()
    bench.feed(Rows(0, EVENTS[4:]))
    assert "event 1" in bench.state.fence


def test_relay_is_fenced_when_an_event_is_larger_than_a_frame():
    bench = Bench(chain(1, body=b"x" * timing.FRAME_BYTES_MAX))
    bench.stream()
    assert bench.read() == []
    assert bench.state.fence.startswith("TOOBIG: event 1")


def test_relay_splits_what_it_sends_when_events_are_large():
    bench = Bench(chain(3, body=b"x" * 200_000))
    hello = bench.greet()
    bench.feed(frames.Welcome(SESSION, hello.req, ORIGIN, 100, 10**7))
    bench.read()
    assert [len(frame.events) for frame in sent(bench.outputs)] == [1, 1, 1]


def test_relay_reads_again_when_the_outbox_grew_during_a_reading():
    bench = Bench(EVENTS[:2])
    bench.stream()
    asked = bench.outputs
    bench.events = EVENTS
    assert bench.feed(timing.Grown()) == []
    bench.outputs = asked
    bench.feed(Rows(0, EVENTS[:2]))
    assert numbers(bench.outputs) == [1, 2]
    assert numbers(bench.read()) == [3, 4, 5, 6, 7, 8, 9, 10]


def test_relay_reads_on_when_a_large_event_may_have_been_left_out():
    bench = Bench(chain(3, body=b"x" * 400_000))
    hello = bench.greet()
    bench.feed(frames.Welcome(SESSION, hello.req, ORIGIN, 100, 10**7))
    bench.feed(Rows(0, bench.events[:1]))
    assert numbers(bench.outputs) == [1]
    assert numbers(bench.read()) == [2, 3]


def test_relay_announces_every_epoch_with_its_base():
    bench = Bench()
    bench.feed(timing.Begin(SESSION))
    epochs = (FIRST, Epoch(2, 4, EVENTS[3].hash, b"x"))
    state = OutboxState(epochs, Link(1, 4, EVENTS[3].hash), 1)
    (hello,) = sent(bench.feed(StateRead(SESSION, 1, state)))
    assert hello.epochs == epochs
