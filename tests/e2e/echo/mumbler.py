"""A program that says everything to its log and to its supervisor, and fails."""

import json
import os
import socket
import sys
from pathlib import Path

said = json.loads(Path("payloads.json").read_text("ascii"))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
    for text in said:
        raw = text.encode("utf-8", "surrogatepass")
        supervisor.sendto(b"STATUS=" + raw[:2000], os.environ["NOTIFY_SOCKET"])
        sys.stdout.buffer.write(raw + b"\n")
sys.stdout.flush()
sys.exit(1)
