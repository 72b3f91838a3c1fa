from __future__ import annotations

import pytest

from mesh.framework import Caller
from mesh.services.order.service import service as order_service
from mesh.services.product.service import service as product_service
from tests.services.in_process import Clock, room

LAMP = "prd_00000000-0000-7000-8000-000000000001"
MUG = "prd_00000000-0000-7000-8000-000000000002"
ALICE = Caller("user", "usr_alice", ("customer",))
BOB = Caller("user", "usr_bob", ("customer",))
SAM = Caller("user", "usr_sam", ("staff",))


@pytest.fixture
async def product(tmp_path):
    """The real product, with an empty catalogue."""
    async with room(product_service, tmp_path) as made:
        yield made


@pytest.fixture
async def order(tmp_path, product):
    """The real order, beside the real product."""
    async with room(order_service, tmp_path, product) as made:
        yield made


@pytest.fixture
def wall(monkeypatch):
    """Wall time that stands still until it is moved."""
    return Clock(monkeypatch)
