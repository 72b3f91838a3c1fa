"""The log's SQL: what `log.py` says to its file."""

from __future__ import annotations

INSERT = """
INSERT INTO log (arrival, stream, epoch, seq, prev_epoch, prev_hash, hash, id, type, key, ts_ms,
                 trace, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

READ = """
SELECT arrival, stream, epoch, seq, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body
FROM log WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?"""

READ_ARRIVALS = """
SELECT arrival, stream, epoch, seq, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body
FROM log WHERE arrival > ? ORDER BY arrival LIMIT ?"""

LAST_ARRIVAL = """
SELECT max(coalesce((SELECT max(arrival) FROM log), 0),
           coalesce((SELECT max(arrival) FROM ghost), 0))"""
"""A number is never given twice, or who reads by arrival would miss what has it."""

ARRIVAL_AFTER = "SELECT arrival FROM log WHERE stream = ? AND seq > ? ORDER BY seq LIMIT 1"

MAKE_GHOSTS = """
INSERT OR REPLACE INTO ghost (arrival, new_epoch, noted_ms, stream, epoch, seq, prev_epoch,
                              prev_hash, hash, id, type, key, ts_ms, trace, body)
SELECT arrival, ?, ?, stream, epoch, seq, prev_epoch, prev_hash, hash, id, type, key, ts_ms,
       trace, body
FROM log WHERE stream = ? AND seq > ?"""

ADVANCE = """
INSERT INTO stream (stream, epoch, base, head_epoch, head_seq, head_hash, tail_seq, state)
VALUES (?, ?, ?, ?, ?, ?, ?, '')
ON CONFLICT (stream) DO UPDATE SET
    epoch = excluded.epoch, base = excluded.base, head_epoch = excluded.head_epoch,
    head_seq = excluded.head_seq, head_hash = excluded.head_hash, state = '',
    tail_seq = min(tail_seq, excluded.head_seq + 1)"""

SEE = """
INSERT INTO consumer (stream, name, epoch, seq, known_epoch, seen_ms, required)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (stream, name) DO UPDATE SET
    epoch = excluded.epoch, seq = excluded.seq, known_epoch = excluded.known_epoch,
    seen_ms = excluded.seen_ms, required = excluded.required"""

FIRST_YOUNG = """
SELECT min(seq) FROM (
    SELECT seq, ts_ms FROM log WHERE stream = ? AND seq BETWEEN ? AND ?) WHERE ts_ms >= ?"""
