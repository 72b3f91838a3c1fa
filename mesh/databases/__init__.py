"""Databases a service can remember in, one folder each; reached through `mesh.database` only.

To add one: read `contract.py`; make a folder named after the URL's scheme that offers
`connect(url, directory, name) -> Database`; run `pytest tests/contracts/test_database.py`.
"""
