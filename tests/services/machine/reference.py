"""What a shop is, in a hundred lines: no process, no message, no failure. It says what must be at rest."""

from __future__ import annotations

from dataclasses import dataclass, field

SHIPPING, FREE_FROM, ATTEMPTS = 490, 5000, 3
HOLDING = {"reserved", "paid"}
KEPT = {"paid", "shipped", "delivered"}
CANCELLABLE = {"backordered", "reserved", "paid"}


@dataclass
class Product:
    price: int
    on_hand: int
    sold: bool = True


@dataclass
class Order:
    owner: str
    lines: dict[str, int]
    status: str = ""
    total: int | None = None
    declined: int = 0


@dataclass
class Reference:
    """The shop as its customers understand it."""

    products: dict[str, Product] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)

    def reserved(self, product_id: str) -> int:
        return sum(
            order.lines.get(product_id, 0)
            for order in self.orders.values()
            if order.status in HOLDING
        )

    def available(self, product_id: str) -> int:
        return self.products[product_id].on_hand - self.reserved(product_id)

    def fits(self, order: Order) -> bool:
        return all(self.available(name) >= n for name, n in order.lines.items())

    def place(self, name: str, order: Order, *, backorder: bool, expected: int | None) -> None:
        self.orders[name] = order
        if not all(self.products[each].sold for each in order.lines):
            order.status = "rejected"
            return
        goods = sum(self.products[each].price * n for each, n in order.lines.items())
        order.total = goods + (0 if goods >= FREE_FROM else SHIPPING)
        if expected is not None and order.total > expected:
            order.status = "rejected"
        elif self.fits(order):
            order.status = "reserved"
        else:
            order.status = "backordered" if backorder else "rejected"

    def pay(self, name: str, *, accepted: bool) -> None:
        order = self.orders[name]
        if accepted:
            order.status = "paid"
            return
        order.declined += 1
        if order.declined == ATTEMPTS:
            self.end(name, "cancelled")

    def end(self, name: str, status: str) -> None:
        """It is over; what it held is there for those who wait."""
        order = self.orders[name]
        held = order.status in HOLDING
        order.status = status
        if held:
            self.wake(order.lines)

    def ship(self, name: str) -> None:
        order = self.orders[name]
        order.status = "shipped"
        for product_id, n in order.lines.items():
            self.products[product_id].on_hand -= n

    def take_back(self, name: str) -> None:
        order = self.orders[name]
        order.status = "returned"
        for product_id, n in order.lines.items():
            self.products[product_id].on_hand += n
        self.wake(order.lines)

    def restock(self, product_id: str, delta: int) -> bool:
        """False when less would be left than is reserved."""
        if self.products[product_id].on_hand + delta < self.reserved(product_id):
            return False
        self.products[product_id].on_hand += delta
        if delta > 0:
            self.wake([product_id])
        return True

    def discontinue(self, product_id: str) -> None:
        self.products[product_id].sold = False
        self.wake([product_id])

    def time_is_over(self) -> None:
        """Longer has passed than stock is held for anybody."""
        over = [order for order in self.orders.values() if order.status == "reserved"]
        for order in over:
            order.status = "expired"
        self.wake({product_id for order in over for product_id in order.lines})

    def erase(self, owner: str) -> None:
        over = [
            order
            for order in self.orders.values()
            if order.owner == owner and order.status in CANCELLABLE
        ]
        freed = {name for order in over if order.status in HOLDING for name in order.lines}
        for order in over:
            order.status = "cancelled"
        self.wake(freed)

    def wake(self, freed) -> None:
        """Whoever waits for it is tried, the oldest first; one that does not fit is passed over."""
        for product_id in sorted(freed):
            for name in sorted(self.orders):
                order = self.orders[name]
                if order.status != "backordered" or product_id not in order.lines:
                    continue
                if not all(self.products[each].sold for each in order.lines):
                    order.status = "cancelled"
                elif self.fits(order):
                    order.status = "reserved"
