"""The shop's visitors, in the proportion of an ordinary day: many look, some order, few return.

Built on the operations that the services serve; what none of them serves is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mesh.exercise.scenario import Scenario, VisitOver

if TYPE_CHECKING:
    from mesh.exercise.scenario import Answer, Visit

PASSWORD = "exercise-only-pass"  # noqa: S105  of users who exist for a trial alone
HOME = {
    "name": "Vera Visitor",
    "line1": "1 Harbour Street",
    "city": "Hamburg",
    "postcode": "20457",
    "country": "DE",
}
DECLINED = 0.04
"""Of payments, about as many as cards are declined."""

RETURNED = 0.15

Item = dict[str, object]


async def _catalogue(visit: Visit) -> list[Item]:
    page = await visit.ask("product.list", page_size=20)
    return cast("list[Item]", page["items"] or [])


async def browse(visit: Visit) -> None:
    """Look at the catalogue, then at a product or two."""
    items = await _catalogue(visit)
    for _ in range(visit.whole(1, 2)):
        await visit.ask("product.get", id=visit.choose(items)["id"])


async def _order(visit: Visit, bearer: str | None = None) -> Answer:
    """Order what the catalogue has, popular things more often. Raises: VisitOver."""
    items = await _catalogue(visit)
    wanted: dict[object, int] = {}
    for _ in range(visit.whole(1, 2)):
        popular = int(visit.draw() ** 2 * len(items))
        wanted[visit.choose(items[popular : popular + 1])["id"]] = visit.whole(1, 2)
    return await visit.ask(
        "order.create",
        bearer=bearer,
        lines=[{"product_id": product, "quantity": count} for product, count in wanted.items()],
        ship_to=HOME,
        on_shortage="backorder" if visit.chance(0.1) else "reject",
    )


async def _reserved(visit: Visit) -> Answer:
    """An order whose stock is held; who gets none goes home. Raises: VisitOver."""
    order = await _order(visit)
    if order["status"] != "reserved":
        raise VisitOver
    return order


async def order(visit: Visit) -> None:
    """Order, and look at the order."""
    made = await _order(visit)
    await visit.ask("order.get", id=made["id"])


async def _paid(visit: Visit) -> Answer:
    made = await _reserved(visit)
    token = "tok_declined" if visit.chance(DECLINED) else "tok_visa"
    return await visit.ask("order.pay", id=made["id"], payment_token=token)


async def buy(visit: Visit) -> None:
    """Order and pay."""
    paid = await _paid(visit)
    if paid.ok:
        await visit.ask("order.get", id=paid["id"])


async def regret(visit: Visit) -> None:
    """Order, and cancel, half of the time after paying."""
    made = await (_paid(visit) if visit.chance(0.5) else _reserved(visit))
    if made.ok:
        await visit.ask("order.cancel", id=made["id"])


async def look_back(visit: Visit) -> None:
    """Look at one's own orders, and how one of them came about."""
    page = await visit.ask("order.list", page_size=10)
    items = cast("list[Item]", page["items"] or [])
    await visit.ask("order.history", id=visit.choose(items)["id"])


async def restock(visit: Visit) -> None:
    """Bring new stock of one product."""
    items = await _catalogue(visit)
    await visit.ask(
        "product.restock",
        id=visit.choose(items)["id"],
        delta=visit.whole(5, 50),
        reason=f"delivery {visit.name}",
    )


async def fulfil(visit: Visit) -> None:
    """Order, pay, ship, deliver; some come back."""
    paid = await _paid(visit)
    if paid["status"] != "paid" or not visit.has("order.ship"):
        return
    await visit.ask("order.ship", id=paid["id"], carrier="Post", tracking=visit.name)
    if visit.has("order.deliver"):
        await visit.ask("order.deliver", id=paid["id"])
    if visit.has("order.return") and visit.chance(RETURNED):
        await visit.ask("order.return", id=paid["id"])


async def _joined(visit: Visit) -> tuple[object, str]:
    """A new user's id and token; nobody else has the e-mail, so no refusal will do.

    Raises: VisitOver.
    """
    email = f"{visit.name}@exercise.example"
    user = await visit.ask(
        "user.register",
        refusals=(),
        email=email,
        password=PASSWORD,
        display_name="Vera Visitor",
    )
    session = await visit.ask("user.login", repeat=True, email=email, password=PASSWORD)
    return user["id"], str(session["access_token"])


async def join(visit: Visit) -> None:
    """Register, log in, and look at oneself."""
    _, token = await _joined(visit)
    await visit.ask("user.me", bearer=token)


async def leave(visit: Visit) -> None:
    """Register, order something, and have oneself erased."""
    user, token = await _joined(visit)
    await _order(visit, token)
    await visit.ask("user.erase", id=user, bearer=token)


_LOOK = ("product.list", "product.get")
_ORDER = ("product.list", "order.create", "order.get", "order.pay")
_JOIN = ("user.register", "user.login")

scenarios = (
    Scenario("browse", browse, weight=46, needs=_LOOK),
    Scenario("order", order, weight=18, needs=_ORDER),
    Scenario("buy", buy, weight=14, needs=_ORDER),
    Scenario("fulfil", fulfil, weight=6, needs=_ORDER),
    Scenario("regret", regret, weight=6, needs=(*_ORDER, "order.cancel")),
    Scenario("look-back", look_back, weight=6, needs=("order.list", "order.history")),
    Scenario("restock", restock, weight=3, needs=("product.list", "product.restock")),
    Scenario("join", join, weight=1, needs=(*_JOIN, "user.me")),
    Scenario("leave", leave, weight=0.5, needs=(*_JOIN, *_ORDER, "user.erase")),
)
