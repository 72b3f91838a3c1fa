"""Load, faults and the verdict: what drives a running mesh, and what judges it afterwards.

`verify` asks every promise of copies of the databases, `ledger` those about events. Nothing in
this room starts a program or prints.
"""
