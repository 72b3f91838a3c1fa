"""A verdict is worth what it notices: one service broken in each classical way is caught."""

from __future__ import annotations

import json

import pytest

from tests.support.broken import shop_with

BUILDS = {
    "tracked": ("tracker", None),
    "hasty": ("tracker", "steps-counted"),
    "silent": ("order", "steps-told"),
    "greedy": ("product", "no-oversell"),
}
"""Build → the service that is killed, and the promise that is then broken; `tracked` is sound."""


@pytest.mark.campaign
@pytest.mark.parametrize("build", BUILDS)
def test_broken_build_is_caught_and_a_sound_one_is_not(tmp_path, build):
    target, promise = BUILDS[build]
    mesh = shop_with(tmp_path, build).up()
    try:
        done = mesh.run(
            *("exercise", "rush" if build == "greedy" else "buy", "--chaos", "kill"),
            *("--on", target, "--rate", "20", "--duration", "7", "--seed", "1", "--json"),
            exit_code=7 if promise else 0,
        )
    finally:
        mesh.down()
    found = json.loads(done.stdout)
    assert {each["fault"]["target"] for each in found["faults"]} == {target}
    wrong = {check["name"] for check in found["verify"]["checks"] if not check["ok"]}
    assert promise in wrong if promise else not wrong, wrong  # one fault may break several
    assert found["ok"] is (promise is None)
