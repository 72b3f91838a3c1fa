"""The services of the shop, one folder each. None imports another; all have the same files.

| file | holds |
| --- | --- |
| `service.py` | read first: the table, in the attribute `service` |
| `messages.py` | what crosses its wall: inputs, answers, events, the calls it makes |
| `model.py` | the rules: structs and pure functions, no await, no SQL |
| `store.py` | all SQL and nothing but SQL |
| `actions.py` | asked: one function per operation |
| `listeners.py` | heard: one function per event |
| `schema/` | numbered migrations |

Imports go one way: service > listeners > actions > store > model > messages.

To add one: make a folder with these files, here or in a package of your own; name it in the
configuration (`module: mesh.services.NAME` or `module: your.package`) with the services it
`calls`. The name in its table and the key in the configuration must be the same.
"""
