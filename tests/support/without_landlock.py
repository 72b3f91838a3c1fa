"""Runs a command as on a kernel without Landlock: its system calls are not known there.

python without_landlock.py mesh up -d
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_FIRST, _LAST = 444, 446
_LOAD, _IF_AT_LEAST, _IF_MORE, _RETURN = 0x20, 0x35, 0x25, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _BY_FILTER = 38, 22, 2

FILTER = b"".join(
    struct.pack("=HBBI", *line)
    for line in (
        (_LOAD, 0, 0, 0),
        (_IF_AT_LEAST, 0, 2, _FIRST),
        (_IF_MORE, 1, 0, _LAST),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_RETURN, 0, 0, _ALLOW),
    )
)


def forget_landlock() -> None:
    """For this process and whatever it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(FILTER)
    program = struct.pack("@HP", len(FILTER) // 8, ctypes.addressof(code))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _BY_FILTER, program, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "no seccomp")


if __name__ == "__main__":
    forget_landlock()
    os.execvp(sys.argv[1], sys.argv[1:])
