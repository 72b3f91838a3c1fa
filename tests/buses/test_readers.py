"""Who reads the whole log is answered with what is durable, and waits for what will be."""

from __future__ import annotations

import pytest

from mesh.buses.contract import NO_HASH, ORIGIN, Link, Position
from mesh.buses.zmq.log import Advancing, Group, Log
from mesh.buses.zmq.protocol.frames import EVERYTHING, Attach, Batch, Get, Reset
from mesh.buses.zmq.readers import Readers
from tests.buses.histories import FIRST, chain

EVENTS = chain(3)
PEER = b"peer"


def get(after, rows_max=10, session=1):
    return Get(session, 2, EVERYTHING, Position(0, after), rows_max, 1000)


def write(log, *events):
    log.stage(Group(events=events))
    log.commit()


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path)
    made.stage(Group(advances=(Advancing("order", (FIRST,), ORIGIN),)))
    made.commit()
    yield made
    made.close()


@pytest.fixture
def readers(log):
    made = Readers(log, tuple)
    made.answer(PEER, Attach(1, "cli", EVERYTHING, ORIGIN, 0), more_comes=True)
    return made


def test_question_beyond_the_log_is_answered_once_what_is_being_committed_is_there(log, readers):
    write(log, EVENTS[0])
    assert readers.answer(PEER, get(1), more_comes=True) is None
    write(log, EVENTS[1])
    ((peer, batch),) = readers.held()
    assert (peer, batch.req, batch.events, batch.arrivals) == (PEER, 2, EVENTS[1:2], (2,))
    assert list(readers.held()) == []


def test_question_is_answered_at_once_when_something_is_there_or_nothing_comes(log, readers):
    write(log, EVENTS[0])
    assert readers.answer(PEER, get(0), more_comes=True).events == EVENTS[:1]
    head = Link(0, 1, NO_HASH)
    assert readers.answer(PEER, get(1), more_comes=False) == Batch(1, 2, head, ())
    assert readers.answer(PEER, get(1, rows_max=0), more_comes=True) == Batch(1, 2, head, ())
    assert readers.answer(PEER, get(1, session=9), more_comes=True) == Reset(9, "PROTO", 2)
    assert list(readers.held()) == []
