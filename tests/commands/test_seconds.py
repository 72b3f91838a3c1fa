"""Times as they are typed: a number of seconds, or as the configuration writes them."""

from __future__ import annotations

import click
import pytest

from mesh.commands.verb import Seconds


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90", 90.0), ("0.5", 0.5), ("90s", 90.0), ("1m30s", 90.0), ("500ms", 0.5), ("1h", 3600.0)],
)
def test_time_is_read(typed: str, seconds: float):
    assert Seconds(0.5, 3600).convert(typed, None, None) == seconds


@pytest.mark.parametrize("typed", ["10x", "", "soon", "1m30", "s", "1 s", "nan", "2h", "1ms"])
def test_what_is_no_time_here_is_refused(typed: str):
    with pytest.raises(click.BadParameter):
        Seconds(0.5, 3600).convert(typed, None, None)
