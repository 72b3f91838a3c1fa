"""What must hold: in every state, and once everything is well again. Numbers are the protocol's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.buses.contract import ORIGIN
from mesh.buses.zmq.protocol.lineage import intact, newest

if TYPE_CHECKING:
    from tests.model.machine import Machine, Where
    from tests.model.parts import BusDisk, InboxDisk, OutboxDisk


def now(machine: Machine, at: Where) -> str:
    once, parts = machine.once, machine.parts
    wrong = once(_outbox, parts, at.outbox) or once(_log, parts, at.log, at.outbox)
    if wrong or machine.scope == "upstream":
        return wrong
    return once(_inbox, parts, at.inbox) or once(_applied, parts, at.inbox, at.outbox, at.log)


def _chained(events) -> bool:
    last = ORIGIN
    for event in events:
        if event.previous != last or not intact(event):
            return False
        last = event.link
    return True


def _outbox(parts, disk: int) -> str:
    outbox: OutboxDisk = parts[disk]
    if not _chained(outbox.events):
        return "I2: the outbox is no chain"
    places = {(each.epoch, each.seq) for each in outbox.ever}
    if len(places) != len(outbox.ever):
        return "I8: two events have one position"
    return ""


def _log(parts, disk: int, other: int) -> str:
    log: BusDisk = parts[disk]
    outbox: OutboxDisk = parts[other]
    if not _chained(log.log):
        return "I2: the log is no chain"
    if newest(log.epochs) == newest(outbox.epochs):
        if log.log != outbox.events[: len(log.log)]:
            return "I3: the log is no prefix of the outbox"
        if outbox.tail > len(log.log) + 1:
            return "I4: trimmed from the outbox and not in the log"
    elif not set(log.log) <= set(outbox.ever):
        return "I3: the log holds what nobody told"
    return ""


def _inbox(parts, disk: int) -> str:
    inbox: InboxDisk = parts[disk]
    if len({each.id for each in inbox.effects}) != len(inbox.effects):
        return "I5: an event took effect twice"
    live = inbox.live
    if not _chained(live):
        return "I5: what took effect is no chain"
    if inbox.cursor.link != (live[-1].link if live else ORIGIN):
        return "I6: cursor and effects are apart"
    return ""


def _applied(parts, disk: int, other: int, third: int) -> str:
    inbox: InboxDisk = parts[disk]
    outbox: OutboxDisk = parts[other]
    log: BusDisk = parts[third]
    live = inbox.live
    known = inbox.cursor.known_epoch == newest(outbox.epochs)
    if known and live != outbox.events[: len(live)]:
        return "I5: what took effect is no prefix of the history"
    known = inbox.cursor.known_epoch == newest(log.epochs)
    base = next((e.base for e in log.epochs if e.epoch == newest(log.epochs)), 0)
    needed = len(live) if known else min(len(live), base)
    if log.tail > needed + 1:
        return "I7: trimmed before the consumer had it"
    return ""


def at_rest(scope: str, outbox: OutboxDisk, log: BusDisk, inbox: InboxDisk) -> str:
    if log.log != outbox.events or log.epochs != outbox.epochs:
        return "L1: the log is not the outbox"
    if scope == "upstream":
        return ""
    if inbox.live != outbox.events:
        return "L1: what took effect is not the history"
    if inbox.cursor.known_epoch != newest(outbox.epochs):
        return "L1: the consumer does not know the epoch"
    ghosts = {each for each in inbox.effects if each not in outbox.events}
    if ghosts != set(inbox.diverged):
        return "I9: effects of replaced events are not flagged"
    return ""
