"""SIGKILL for everything, seeded: nothing is left behind, nobody refused, nothing accepted lost.

Run longer from the command line: `python -m tests.e2e.test_kill_campaign SEED COUNT`.
"""

from __future__ import annotations

import random
import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.support.campaign import Campaign, shop
from tests.support.schedule import SERVICES, WEIGHTS, schedule
from tests.support.tally import gaps

PORTS = range(20_000, 32_000)
"""Below those that the kernel gives away, so that nobody takes one between two lives of a mesh."""


def free_ports(chance: random.Random, count: int) -> list[int]:
    """Ports that nobody uses now."""
    found: list[int] = []
    while len(found) < count:
        number = chance.choice(PORTS)
        with socket.socket() as probe:
            if number not in found and probe.connect_ex(("127.0.0.1", number)) != 0:
                found.append(number)
    return found


def run(directory: Path, seed: int, count: int) -> Campaign:
    """A whole campaign; what it found is printed, and what is wrong raised with the way back."""
    campaign = Campaign(
        shop(directory, free_ports(random.Random(), len(SERVICES))),
        say=lambda line: print(line, flush=True),
    )
    tally = campaign.tally
    again = f"again: python -m tests.e2e.test_kill_campaign {seed} {count}"
    try:
        campaign.run(schedule(seed, count))
    except BaseException as error:
        error.add_note("\n".join([*tally.wrongs, tally.summary(campaign.buyer), again]))
        raise
    finally:
        campaign.close()
    print(tally.summary(campaign.buyer))
    assert not tally.wrongs, "\n".join([*tally.wrongs, again])
    return campaign


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_left_behind_whatever_is_killed(tmp_path: Path):
    campaign = run(tmp_path, 1, 30)
    assert campaign.tally.total + campaign.tally.missed == 30
    assert len(campaign.buyer.placed) > 10


def test_schedule_is_what_its_seed_says():
    steps = schedule(7, 1000)
    assert steps == schedule(7, 1000) != schedule(8, 1000)
    assert sum(len(step.victims) for step in steps) == 1000
    kills = Counter(victim for step in steps for victim in step.victims)
    assert kills["supervisor"] >= 100
    assert kills["bus"] >= 200
    assert {step.kind for step in schedule(1, 30)} == set(WEIGHTS)


def test_gaps_and_doubles_in_a_log_are_seen():
    def event(stream: str, sequence: int) -> dict[str, str]:
        return {"stream": stream, "sequence": str(sequence), "id": f"{stream}-{sequence}"}

    whole = [event("a", 1), event("b", 1), event("a", 2)]
    assert gaps(whole) == []
    assert gaps([*whole, event("a", 4)]) == ["the events of a are not contiguous"]
    assert gaps([event("a", 2)]) == ["the events of a are not contiguous"]
    twice = [event("a", 1), {**event("b", 1), "id": "a-1"}]
    assert gaps(twice) == ["an event is there twice"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), int(sys.argv[1]), int(sys.argv[2]))
