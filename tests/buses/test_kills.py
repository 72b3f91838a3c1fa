"""Real processes under load, killed at random: every event takes effect once, in order."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest

from mesh import bus
from tests.buses.support import ROOT, WAIT_S, BrokerProcess

pytestmark = pytest.mark.e2e

RATE = 500
KILLS = 16


class Program:
    """One of `programs.py`."""

    def __init__(self, *args):
        self.args = [sys.executable, "-m", "tests.buses.programs", *map(str, args)]

    def start(self):
        self.process = subprocess.Popen(self.args, cwd=ROOT, stdin=subprocess.PIPE)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


def rows(path, sql):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.mark.timeout(300)
async def test_every_event_takes_effect_once_in_order_when_anybody_is_killed(tmp_path):
    seed = 20
    chance = random.Random(seed)
    wanted = bus.program("zmq://", directory=tmp_path / "bus", sockets=tmp_path / "run")
    broker = BrokerProcess(wanted, tmp_path / "bus")
    publisher = Program("publisher", wanted.client_url, tmp_path / "order.db", RATE)
    consumer = Program("consumer", wanted.client_url, tmp_path / "product.db")
    parties = [broker, publisher, consumer]
    for party in parties:
        party.start()
    try:
        for kill in range(KILLS):
            await asyncio.sleep(chance.uniform(0.05, 0.5))
            victim = chance.choice([broker, broker, publisher, consumer])
            victim.kill()
            if kill % 8 == 7:
                broker.kill()
                shutil.rmtree(tmp_path / "bus")
                broker.start()
            if victim is not broker or kill % 8 != 7:
                victim.start()
        publisher.process.stdin.close()
        assert await asyncio.to_thread(publisher.process.wait, WAIT_S) == 0
        outbox = rows(tmp_path / "order.db", "SELECT seq, body FROM outbox ORDER BY seq")
        end = time.monotonic() + WAIT_S
        effects = []
        while len(effects) < len(outbox) and time.monotonic() < end:
            await asyncio.sleep(0.05)
            effects = rows(tmp_path / "product.db", "SELECT seq, body FROM effect ORDER BY n")
        assert effects == outbox, f"seed {seed}"
        assert len(outbox) > 500
        assert broker.stop() == 0
        log = rows(tmp_path / "bus" / "bus.db", "SELECT seq, body FROM log ORDER BY arrival")
        assert log == outbox
    finally:
        for party in parties:
            party.kill()
