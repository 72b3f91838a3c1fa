"""A mesh of real processes in a directory of its own, driven as a user drives it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

SHOP = Path(__file__).parents[2] / "configs" / "mesh.yaml"
COMMAND_S = 60.0
ANSWER_S = 30.0
PATIENCE = "MESH_PATIENCE"
USUAL = {PATIENCE: "1"}
"""Of a mesh that keeps the deadlines that users have. Else a disk that stalls for seconds makes a hold,
a login or a payment late, which is then promised for later or refused, and is no answer to a test
that asks what becomes of it and not when."""

PASSWORD = "demo-shop-pass"
SEEDED = "ord_00000000-"
"""What the ids of the configuration's orders begin with."""

LAMP = "prd_00000000-0000-7000-8000-000000000001"
ADDRESS = {
    "name": "Alice Adams",
    "line1": "1 Harbour Street",
    "city": "Hamburg",
    "postcode": "20457",
    "country": "DE",
}


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class RunningMesh:
    """One mesh; its data lies in `directory`."""

    directory: Path
    file: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start `mesh ARGS` and leave it running."""
        return self.begin([sys.executable, "-m", "mesh", *args])

    def begin(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a command in the mesh's directory and surroundings."""
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MESH_")},
            "MESH_FREE_PORTS": "1",
            "NO_COLOR": "1",
            PATIENCE: "20",
            **self.environment,
        }
        if self.file is not None:
            environment["MESH_FILE"] = str(self.file)
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(self, *args: str, exit_code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `mesh ARGS` to its end and check its exit code (None: any)."""
        process = self.start(*args)
        out, err = process.communicate(timeout=COMMAND_S)
        done = subprocess.CompletedProcess(args, process.returncode, out, err)
        if exit_code is not None and done.returncode != exit_code:
            logs = self.logs() if done.returncode else ""
            raise AssertionError(
                f"mesh {' '.join(args)} ended with {done.returncode}, expected {exit_code}\n"
                f"{out}\n{err}\n{logs}"
            )
        return done

    def json(self, *args: str, exit_code: int | None = 0) -> Any:
        """Run `mesh ARGS --json` and read what it prints."""
        return json.loads(self.run(*args, "--json", exit_code=exit_code).stdout)

    def lines(self, *args: str) -> list[Any]:
        """Run `mesh ARGS --json` and read one object a line."""
        return [json.loads(line) for line in self.run(*args, "--json").stdout.splitlines()]

    def up(self, *args: str) -> RunningMesh:
        """`mesh up -d`."""
        self.run("up", "-d", *args)
        return self

    def down(self) -> None:
        """`mesh down`."""
        self.run("down")

    def logs(self) -> str:
        """The end of every log, for a failure's evidence."""
        found = sorted((self.directory / "data" / "logs").glob("*.log"))
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text("utf-8", "replace").splitlines()[-15:])
            for path in found
        )

    def services(self) -> dict[str, dict[str, Any]]:
        """The rows of `mesh ps --json` by name."""
        return {row["name"]: row for row in self.json("ps")["services"]}

    def supervisor(self) -> int:
        """The supervisor's pid."""
        return int(self.json("ps")["supervisor"]["pid"])

    def kill(self, service: str, number: int = signal.SIGKILL) -> int:
        """Signal one program as an accident would; returns the pid it had.

        One that is killed has ended by then: amid an fsync that may take a while, in which it would
        still count as running.
        """
        pid = int(self.services()[service]["pid"])
        os.kill(pid, number)
        if number == signal.SIGKILL:
            eventually(lambda: gone(pid), within_s=30)
        return pid

    def runtime_directory(self) -> Path:
        """Where its sockets are."""
        facts = json.loads((self.directory / "data" / "run" / "mesh.json").read_text("utf-8"))
        return Path(facts["runtime_dir"])

    def url(self, service: str) -> str:
        """Its base URL: ports stay the same as long as the mesh runs."""
        facts = json.loads((self.directory / "data" / "run" / "mesh.json").read_text("utf-8"))
        return str(facts["services"][service]["url"])

    def ask(
        self,
        service: str,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Answer:
        """One HTTP request on a connection of its own."""
        parts = urlsplit(self.url(service))
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=timeout_s)
        sent = dict(headers or {})
        raw = None
        if body is not None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, raw, sent)
            response = connection.getresponse()
            text = response.read()
            content = json.loads(text) if text[:1] in {b"{", b"["} else text.decode()
            return Answer(response.status, dict(response.headers), content)
        finally:
            connection.close()

    def placed(self, name: str) -> list[dict[str, object]]:
        """Every order somebody has placed: the seeded ones are nobody's doing."""
        token, found, page = self.login(name), [], ""
        while True:
            listed = self.ask("order", "GET", f"/orders?page_size=100{page}", token=token).body
            found += [item for item in listed["items"] if not item["id"].startswith(SEEDED)]
            if not listed["next_page_token"]:
                return found
            page = f"&page_token={listed['next_page_token']}"

    def login(self, name: str, password: str = PASSWORD) -> str:
        """An access token of one of the seeded users."""
        if name not in self._tokens:
            self._tokens[name] = eventually(lambda: self._session(name, password), COMMAND_S)
        return self._tokens[name]

    def _session(self, name: str, password: str) -> str | None:
        """A new access token; none if the shop says that one should come again."""
        body = {"email": f"{name}@shop.example", "password": password}
        answer = self.ask("user", "POST", "/sessions", body)
        assert answer.status in {201, 503}, answer
        return None if answer.status == 503 else str(answer.body["access_token"])

    def order(
        self,
        lines: list[tuple[str, int]],
        *,
        key: str,
        user: str = "alice",
        **members: object,
    ) -> Answer:
        """Place an order."""
        body = {
            "lines": [{"product_id": product, "quantity": n} for product, n in lines],
            "ship_to": ADDRESS,
            **members,
        }
        return self.ask(
            "order",
            "POST",
            "/orders",
            body,
            token=self.login(user),
            headers={"Idempotency-Key": key},
        )

    def taken(self, lines: list[tuple[str, int]], *, key: str) -> str:
        """Place an order as a client does in a crowd: sent away for now, it comes again with its key.

        Returns: the id of an order that is decided (201) or will be (202).
        """

        def found() -> str | None:
            answer = self.order(lines, key=key)
            assert answer.status in {201, 202, 503}, answer
            return None if answer.status == 503 else str(answer.body["id"])

        return str(eventually(found, within_s=COMMAND_S))

    def product(self, on_hand: int, sku: str = "TEST-1", price_minor: int = 1000) -> str:
        """A new product with so much stock; returns its id."""
        answer = self.ask(
            "product",
            "POST",
            "/products",
            {
                "sku": sku,
                "name": f"Product {sku}",
                "price_minor": price_minor,
                "currency": "EUR",
                "on_hand": on_hand,
            },
            token=self.login("sam"),
        )
        assert answer.status == 201, answer
        return str(answer.body["id"])

    def restock(self, product: str, delta: int) -> Answer:
        """Change a product's stock as staff."""
        return self.ask(
            "product",
            "POST",
            f"/products/{product}/stock-adjustments",
            {"delta": delta, "reason": "delivery"},
            token=self.login("sam"),
        )

    def idle(self) -> None:
        """Wait until nothing moves any more."""
        self.run("wait", "--for", "idle", "--timeout", "55")


def tough_shop(directory: Path) -> RunningMesh:
    """The shop without a limit on crashes, for those who kill more often than that; not started."""
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    for service in config["services"].values():
        service["restart"] = "always"
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return RunningMesh(directory, environment=USUAL)


def eventually(condition: Callable[[], Any], within_s: float) -> Any:
    """The first true value of `condition`; asked every 10 ms for at most `within_s` seconds."""
    deadline_s = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {within_s} s: {condition}")
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that only waits to be reaped by its new parent has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"
