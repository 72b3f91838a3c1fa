"""The rules of the protocol as pure functions: no socket, no clock, no database, no chance.

Three roles, each a `step(state, input, now) -> (state, outputs)` over frozen structs: `producer`
(the relay of an outbox), `broker` (one stream at the bus), `consumer` (the delivery of one stream
to an inbox). What storage answers comes back as an input. The shells (`relay.py`, `broker.py`,
`delivery.py`), a model checker and a simulation drive the same functions.
"""
