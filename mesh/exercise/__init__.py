"""Load, faults and the verdict: what drives a running mesh, and what judges it afterwards.

Going through a run: `scenario` is what a visitor does, `plan` who comes when, `chaos` what breaks when,
`load` lets them in, `wire` asks, `history` writes down, `tally` counts, `verify` and `checker`
judge, `report` tells. Nothing in this room starts a program or prints.
"""

from mesh.exercise.scenario import Answer, Scenario, Visit

__all__ = ["Answer", "Scenario", "Visit"]
