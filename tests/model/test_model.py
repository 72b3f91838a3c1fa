"""The shipped rules under every interleaving of a small world, and rules that are wrong on purpose."""

from __future__ import annotations

import pytest

from tests.model.mutants import MUTANTS
from tests.model.scopes import SCOPES, explore, explore_mutant

EVENTS = 4
STATES_MAX = 2_000_000
STATES_MIN = {
    "producer and bus": 100_000,
    "producer and bus, conversations lost": 200_000,
    "producer and bus, several in a PUT": 50_000,
    "bus and consumer": 500_000,
    "bus and consumer, a slow inbox": 100_000,
    "bus and consumer, shown and lost": 300_000,
    "all three": 50_000,
}
"""Fewer, and something is no longer explored."""


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: scope.title)
def test_no_state_of_the_shipped_rules_is_wrong(scope):
    found = explore(scope, EVENTS, states_max=STATES_MAX)
    assert not found.violation, "\n".join([found.violation, *found.trace])
    assert found.complete
    assert found.states > STATES_MIN[scope.title]


@pytest.mark.campaign
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_caught(mutant):
    found = explore_mutant(mutant)
    assert found.violation, f"{found.states} states, and nobody noticed that {mutant.name}"


def test_mutants_are_many_and_leave_no_trace():
    assert len(MUTANTS) >= 16
    found = explore(SCOPES[0], 2, states_max=STATES_MAX)
    assert found.complete
    assert not found.violation
