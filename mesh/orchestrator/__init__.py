"""The orchestrator: programs started, watched, restarted and stopped, nothing left behind.

Read `contract.py` first. `plan` and `restart` decide and touch nothing; `supervisor` lets a
`runner` per program carry out what they decide; `starter` is the process that forks them.
"""
