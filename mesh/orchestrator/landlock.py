"""Walls around this process, by Landlock: whatever is not granted is refused from then on.

They stand for this process, its threads and whatever it starts, and cannot be taken down again.
What the kernel does not know is left out, oldest first: files (Linux 5.13), truncation (6.2), TCP
ports (6.7), devices (6.10), signals and abstract sockets (6.12). No kernel refuses by this to ask
for a file's size or mode, or to connect to a socket that has a path. Numbers and structs are those
of linux/landlock.h, the same on every architecture. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_BENEATH, _PORT = 1, 2
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_MAKE_DEVICES = 1 << 6 | 1 << 11
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE = _WRITE_FILE | _READ_FILE | _READ_DIR | _TRUNCATE | _REFER | _REMOVE_AND_MAKE
_DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV

_BIND, _CONNECT = 1 << 0, 1 << 1
_ABSTRACT_SOCKETS_AND_SIGNALS = 1 << 0 | 1 << 1

REFER_ABI, TRUNCATE_ABI, NETWORK_ABI, DEVICES_ABI, SCOPES_ABI = 2, 3, 4, 5, 6
"""The version of the interface that brought each."""

_libc = ctypes.CDLL(None, use_errno=True)


class Grants(TypedDict):
    """What is granted; a path that is not there grants nothing.

    `list` is to see the names in a folder and below; `read` is also to execute; `write` is to read, make and remove too, but not to execute.
    `connect` and `bind` are TCP ports; None: any.
    """

    list: list[str]
    read: list[str]
    write: list[str]
    devices: list[str]
    connect: list[int] | None
    bind: list[int] | None


def abi() -> int:
    """The version of Landlock's interface in this kernel; 0 where it is absent or switched off."""
    version: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(0, version)


def enter(grants: Grants) -> None:
    """Put the walls up. Call it before any thread is started.

    Raises: OSError; nothing is refused then.
    """
    version = abi()
    handled = _EXECUTE | _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_AND_MAKE
    handled |= _REFER if version >= REFER_ABI else 0
    handled |= _TRUNCATE if version >= TRUNCATE_ABI else 0
    handled |= _IOCTL_DEV if version >= DEVICES_ABI else 0
    network = 0
    if version >= NETWORK_ABI:
        network |= _CONNECT if grants["connect"] is not None else 0
        network |= _BIND if grants["bind"] is not None else 0
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= SCOPES_ABI else 0
    known = 24 if version >= SCOPES_ABI else 16 if version >= NETWORK_ABI else 8
    wanted = struct.pack("=QQQ", handled, network, scopes)[:known]
    rules = _call(_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), 0)
    try:
        _grant_paths(rules, grants["list"], _READ_DIR)
        _grant_paths(rules, grants["read"], _READ & handled)
        _grant_paths(rules, grants["write"], _WRITE & handled & ~_MAKE_DEVICES)
        _grant_paths(rules, grants["devices"], _DEVICE & handled)
        for access, ports in ((_CONNECT, grants["connect"]), (_BIND, grants["bind"])):
            for port in ports or () if network & access else ():
                _call(_ADD_RULE, rules, _PORT, struct.pack("=QQ", access, port), 0)
        if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise _failure()
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _grant_paths(rules: int, paths: Iterable[str], access: int) -> None:
    for path in paths:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not there, or out of reach already
        try:
            folder = stat.S_ISDIR(os.fstat(place).st_mode)
            allowed = access if folder else access & _OF_A_FILE
            _call(_ADD_RULE, rules, _BENEATH, struct.pack("=Qi", allowed, place), 0)
        finally:
            os.close(place)


def _call(*arguments: object) -> int:
    result: int = _libc.syscall(*arguments)
    if result < 0:
        raise _failure()
    return result


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"Landlock: {os.strerror(number)}")
