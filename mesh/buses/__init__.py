"""Buses a service can tell the world through, one folder each; reached through `mesh.bus` only.

To add one: read `contract.py`; make a folder named after the URL's scheme that offers
`connect(…) -> Bus` and, if it needs a program of its own, `broker`; run
`pytest tests/contracts/test_bus.py`.
"""
