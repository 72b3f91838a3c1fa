"""Any program that knows sd_notify(3), and says what its arguments tell it to."""

import os
import signal
import socket
import sys

address = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
    line.connect(address)
    for word in sys.argv[1:]:
        line.send(word.encode())
print("said it", os.environ["WATCHDOG_USEC"], flush=True)
signal.pause()
