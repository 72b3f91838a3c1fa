"""The configured shop as a newcomer finds it: every example is answered, and every promise holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import mesh
from mesh.framework import Caller
from mesh.services.order.service import service as order_service
from mesh.services.product.service import service as product_service
from tests.services.in_process import room
from tests.services.order import at_rest
from tests.services.order.support import deliver, work

ALICE = Caller("user", "usr_00000000-0000-7000-8000-000000000001", ("customer",))
SAM = Caller("user", "usr_00000000-0000-7000-8000-000000000003", ("staff",))
CONFIGURED = Path(mesh.__file__).parent.parent / "configs" / "mesh.yaml"


@pytest.fixture
async def shop(tmp_path):
    seeds = {
        name: service.get("seed", {})
        for name, service in yaml.safe_load(CONFIGURED.read_text("utf-8"))["services"].items()
    }
    async with (
        room(product_service, tmp_path) as product,
        room(order_service, tmp_path, product) as order,
    ):
        await product.plant(seeds["product"])
        await order.plant(seeds["order"])
        await deliver(product, order)
        yield {"order": order, "product": product}


def speaker(operation) -> Caller:
    """The first who may, as `mesh call` chooses."""
    if operation.allow.services and not operation.allow.roles:
        return Caller("service", operation.allow.services[0])
    alices = operation.allow.owner or {"customer", "user"} & set(operation.allow.roles)
    return ALICE if alices else SAM


async def test_seed_keeps_every_promise(shop):
    await work(shop["order"])
    await deliver(shop["product"], shop["order"])
    assert at_rest.wrong(shop["order"], shop["product"]) == []


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        pytest.param(service.name, operation, id=f"{service.name} {operation.name}")
        for service in (order_service, product_service)
        for operation in service.operations
    ],
)
async def test_example_is_answered(shop, service, operation):
    caller = speaker(operation)
    answer = await shop[service].ask(
        operation.name, operation.example, caller=caller, key="k", match="*"
    )
    assert isinstance(answer, operation.gives)
    await work(shop["order"])
    await deliver(shop["product"], shop["order"])
    assert at_rest.wrong(shop["order"], shop["product"]) == []
