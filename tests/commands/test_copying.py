"""What `mesh verify` tells while it copies."""

from __future__ import annotations

from mesh.commands.verify import copying

MIB = 2**20
SIZES = {"order": 200 * MIB, "product": 50 * MIB, "bus": MIB // 2}


def test_what_is_copied_and_what_is_still_under_way_is_told():
    assert copying(SIZES, []) == "copying at one cut: 0.0 of 250.5 MiB   order, product, bus"
    assert copying(SIZES, ["product"]) == "copying at one cut: 50.0 of 250.5 MiB   order, bus"
    assert copying(SIZES, [*SIZES]) == "copying at one cut: 250.5 of 250.5 MiB"


def test_a_database_that_came_meanwhile_counts_nothing():
    assert copying(SIZES, ["late"]).startswith("copying at one cut: 0.0 of 250.5 MiB")
