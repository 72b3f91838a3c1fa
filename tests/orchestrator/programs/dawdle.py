"""A module whose import takes its time; whoever imports it holds this file open meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

with Path(__file__).open():
    time.sleep(30)
