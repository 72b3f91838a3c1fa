"""A customer who places one order after another, whatever happens to the shop."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from typing import TYPE_CHECKING, Self

from tests.support.running import ADDRESS, LAMP, PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tests.support.running import RunningMesh

PAUSE_S = 0.05
"""Between two orders, and between two tries of one."""

GIVE_UP_S = 120.0
"""One order takes no longer, with every kill and every `up` in between."""

TAKEN = frozenset({201, 202})
"""The order is there: decided, or to be decided when product is back."""

AGAIN = frozenset({401, 409, 503, 504})
"""Answers that mean: the same again, with the same key."""


class Buyer:
    """Orders one lamp after another while the `with` lasts; each is sent until it is answered.

    Attributes:
        placed: the id of each order that was answered as taken, by its key.
        wrongs: what should not have been, a refused connection among it.
    """

    def __init__(self, mesh: RunningMesh) -> None:
        """Nothing is ordered yet."""
        self.placed: dict[str, str] = {}
        self.refused = 0
        self.wrongs: list[str] = []
        self._mesh = mesh
        self._token: str | None = None
        self._turn = 0
        self._closed = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._buy)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the order in hand; give it up when the shop is not coming back."""
        if error is not None:
            self._closed += 1
        self._ended.set()
        self._thread.join()

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """The shop is not open: to be refused now is nobody's fault."""
        with self._lock:
            self._turn += 1
            self._closed += 1
        try:
            yield
        finally:
            with self._lock:
                self._turn += 1
                self._closed -= 1

    def _buy(self) -> None:
        for number in itertools.count():
            if self._ended.wait(PAUSE_S):
                return
            self._insist(f"buyer-{number}")

    def _insist(self, key: str) -> None:
        """The same order until it is there."""
        until_s = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until_s:
            with self._lock:
                turn, closed = self._turn, self._closed
            try:
                if self._order(key):
                    return
            except ConnectionRefusedError:
                with self._lock:
                    if not closed and turn == self._turn:
                        self.refused += 1
                        self.wrongs.append(f"{key} was refused a connection")
            except (OSError, ValueError, http.client.HTTPException):
                pass  # cut off by a kill: whether it was taken will be seen
            if self._ended.is_set() and closed:
                return
            time.sleep(PAUSE_S)
        self.wrongs.append(f"{key} was not answered in {GIVE_UP_S:.0f} s")

    def _order(self, key: str) -> bool:
        if self._token is None:
            login = {"email": "alice@shop.example", "password": PASSWORD}
            answer = self._mesh.ask("user", "POST", "/sessions", login)
            if answer.status == 201:
                self._token = str(answer.body["access_token"])
            elif answer.status not in AGAIN:
                self.wrongs.append(f"a login was answered {answer.status}: {answer.body}")
            return False
        body = {"lines": [{"product_id": LAMP, "quantity": 1}], "ship_to": ADDRESS}
        headers = {"Idempotency-Key": key}
        answer = self._mesh.ask(
            "order", "POST", "/orders", body, token=self._token, headers=headers
        )
        if answer.status in TAKEN:
            self.placed[key] = str(answer.body["id"])
            return True
        if answer.status == 401:
            self._token = None
        elif answer.status not in AGAIN:
            self.wrongs.append(f"{key} was answered {answer.status}: {answer.body}")
        return False
