from __future__ import annotations

import pytest

from tests.orchestrator.harness import Mesh


@pytest.fixture
def mesh(tmp_path):
    """Makes meshes; whatever becomes of them, no process of theirs may be left behind."""
    made = []

    def make(*programs, directory=tmp_path, **options):
        made.append(Mesh(directory, programs, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    for one in made:
        one.tidy()
