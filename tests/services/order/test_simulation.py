from __future__ import annotations

import os

import pytest

from mesh import clock
from mesh.framework import Context, idempotency
from mesh.services.order import expiring, placing, replica, store
from mesh.services.product import holding
from tests.services.order.simulation import simulate

SEEDS = int(os.environ.get("MESH_SIMULATION_SEEDS", "150"))
"""A campaign sets more."""

BATCHES = 3
SABOTAGE_SEEDS = 80
"""Stories within which a missing safeguard must have been noticed; most take fewer than ten."""


@pytest.mark.parametrize("batch", range(BATCHES))
async def test_order_and_product_agree_at_rest_whatever_happened_between(
    batch, order, product, monkeypatch
):
    for seed in range(batch, SEEDS, BATCHES):
        told = await simulate(seed, order, product, monkeypatch)
        assert not told.wrong, "\n".join([f"seed {seed}", *told.story, *told.wrong])


async def test_simulation_tells_the_same_story_for_the_same_seed(order, product, monkeypatch):
    first = await simulate(7, order, product, monkeypatch)
    again = await simulate(7, order, product, monkeypatch)
    assert len(first.story) > 10
    assert first.story == again.story


def _first_stock_for_ever(tx, product_id, stock_version, available):
    tx.execute(
        "INSERT INTO stock_seen (product_id, stock_version, available)"
        " VALUES (:id, :version, :available) ON CONFLICT DO NOTHING",
        id=product_id,
        version=stock_version,
        available=available,
    )


def _keep_for_ever(tx, *due):
    """Stands for an expiry that is left out."""


SABOTAGE = {
    "backorders are not woken": (replica, "waits", lambda *_: False),
    "stock seen is not renewed": (replica, "see_stock", _first_stock_for_ever),
    "a retry makes another order": (Context, "entity_id", lambda _, kind: clock.new_id(kind)),
    "answers are not kept": (idempotency, "store_answer", lambda *_: None),
    "what is sold no longer is forgotten": (replica, "see_discontinued", lambda *_: None),
    "what is shipped stays on the shelf": (holding, "_ship", holding._commit),
    "a hold that was lost is believed in": (store, "_HELD", "1"),
    "what is held for nobody is kept": (placing, "_disown", lambda *_: None),
    "nobody looks for who has not paid": (store, "is_looked_at", lambda *_: True),
    "orders do not expire": (expiring, "_expire", _keep_for_ever),
}


@pytest.mark.parametrize("what", SABOTAGE)
async def test_simulation_notices_when(what, order, product, monkeypatch):
    monkeypatch.setattr(*SABOTAGE[what])
    for seed in range(SABOTAGE_SEEDS):
        if (await simulate(seed, order, product, monkeypatch)).wrong:
            return
    pytest.fail(f"{SABOTAGE_SEEDS} stories in which {what}, and nothing was wrong")
