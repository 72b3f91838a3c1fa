"""`mesh events tail` follows across kills and restarts of the bus, its log and the whole mesh."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING

from tests.support.running import RunningMesh, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def following(mesh: RunningMesh, *args: str) -> Iterator[list[dict]]:
    """What `events tail` has shown so far, while it runs."""
    process = mesh.start("events", "tail", "--json", *args)
    shown: list[dict] = []

    def read() -> None:
        assert process.stdout is not None
        shown.extend(map(json.loads, process.stdout))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield shown
    finally:
        process.terminate()
        reader.join()
        process.communicate()


def _publish(mesh: RunningMesh, first: int, last: int) -> None:
    for n in range(first, last + 1):
        mesh.run("events", "publish", "demo.counted", "-d", str(n))


def _delete_log(mesh: RunningMesh) -> None:
    for file in (mesh.directory / "data" / "bus").glob("bus.db*"):
        file.unlink()


def test_follower_misses_nothing_and_shows_nothing_twice(mesh: RunningMesh):
    with following(mesh, "--stream", "cli") as shown:

        def numbers() -> list[int]:
            return [event["data"] for event in shown]

        _publish(mesh, 1, 1)
        eventually(lambda: numbers() == [1], within_s=30)
        mesh.kill("bus")
        mesh.run("wait", "bus")
        _publish(mesh, 2, 3)
        mesh.run("stop", "bus")
        _delete_log(mesh)
        mesh.run("start", "bus")
        mesh.run("wait", "bus")
        _publish(mesh, 4, 5)
        mesh.down()
        mesh.up()
        _publish(mesh, 6, 6)
        eventually(lambda: numbers() == [1, 2, 3, 4, 5, 6], within_s=30)


def test_follower_of_everything_sees_each_event_of_a_remade_log_once(mesh: RunningMesh):
    before = len(mesh.lines("events", "tail", "--no-follow", "-n", "10000"))
    with following(mesh, "-n", "10000") as shown:
        eventually(lambda: len(shown) == before, within_s=30)
        _delete_log(mesh)
        mesh.kill("bus")
        mesh.run("wait", "bus")
        _publish(mesh, 1, 3)
        eventually(lambda: len(shown) == before + 3, within_s=30)
        mesh.idle()
    places = [(event["stream"], event["epoch"], event["sequence"]) for event in shown]
    assert len(set(places)) == len(places) == before + 3


def test_publish_answers_once_durable_and_says_what_it_became(mesh: RunningMesh):
    said = mesh.json("events", "publish", "demo.greeted", "-d", '{"name":"Ada"}', "--subject", "a")
    assert (said["type"], said["subject"], said["data"]) == ("demo.greeted", "a", {"name": "Ada"})
    mesh.kill("bus")
    mesh.run("wait", "bus")
    (seen,) = eventually(
        lambda: mesh.lines("events", "tail", "--no-follow", "--type", "demo.*"), within_s=30
    )
    assert seen == said
    done = mesh.run("events", "publish", "no good", "-d", "1", exit_code=2)
    assert "cannot be the type" in done.stderr
    mesh.run("stop", "bus")
    done = mesh.run("events", "publish", "demo.greeted", "-d", "1", exit_code=3)
    assert "mesh start bus" in done.stderr


def test_where_looks_into_nested_data_and_attributes(mesh: RunningMesh):
    for n in (1, 2):
        data = json.dumps({"parcel": {"size": n, "tags": ["a", f"t{n}"]}, "paid": n == 1})
        mesh.run("events", "publish", "demo.sent", "-d", data, "--subject", f"p-{n}")
    mesh.run("events", "tail", "--stream", "cli", "--count", "2", "--timeout", "30")

    def found(*where: str) -> list[str]:
        args = [word for each in where for word in ("--where", each)]
        events = mesh.lines("events", "tail", "--no-follow", "--type", "demo.*", *args)
        return [event["subject"] for event in events]

    assert found("parcel.size=2") == ["p-2"]
    assert found("data.parcel.tags.1=t1") == ["p-1"]
    assert found("paid=true", "stream=cli") == ["p-1"]
    assert found("subject=p-2", "paid=true") == []
    done = mesh.run(
        *("events", "tail", "--type", "demo.*", "--where", "parcel.size=3"),
        *("--count", "1", "--timeout", "0.5"),
        exit_code=4,
    )
    assert "0 of 1" in done.stderr
