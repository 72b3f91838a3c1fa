"""What keeps one slow, dead or crowded program from taking the others with it: rules, no wires.

Every rule is told what happened and what time it is, and says what to do. `policy` is the value
that a call carries, `breaker` and `budget` decide for the caller, `admission` for the callee.
It refuses to wait, to send and to read a clock.
"""
