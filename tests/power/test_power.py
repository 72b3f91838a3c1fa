"""No cut of the power loses what was acknowledged, or harms a file."""

from __future__ import annotations

import os

import pytest

from mesh.buses.zmq import logfile
from mesh.databases.sqlite import group
from tests.power.cuts import cut_power
from tests.power.recorder import why_not

CUTS = int(os.environ.get("MESH_POWER_CUTS", "500"))
NORMAL = 1

REASON = why_not()
pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(REASON), reason=REASON or "recorded"),
]


def test_no_cut_loses_what_was_acknowledged():
    found = cut_power(CUTS)
    assert not found.wrong, "\n".join(found.wrong[:20])
    assert found.cuts == CUTS
    assert found.settled == {"order.db", "product.db", "bus.db"}
    assert found.fallen > CUTS / 20, "what is delayed is among what is cut"


@pytest.mark.parametrize("who", ["service", "bus"])
def test_cuts_are_noticed_when_commits_are_not_flushed(who, monkeypatch):
    if who == "service":
        monkeypatch.setattr(group, "FULL", NORMAL)
    else:
        monkeypatch.setitem(logfile._WRITER, "synchronous", NORMAL)
    found = cut_power(100)
    assert any("lost" in wrong for wrong in found.wrong)
