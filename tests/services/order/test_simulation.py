from __future__ import annotations

import pytest

from tests.services.order.simulation import simulate

SEEDS = 300
BATCH = 100


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
async def test_order_and_product_agree_at_rest_whatever_happened_between(
    first, order, product, monkeypatch
):
    for seed in range(first, first + BATCH):
        told = await simulate(seed, order, product, monkeypatch)
        assert not told.wrong, "\n".join([f"seed {seed}", *told.story, *told.wrong])
