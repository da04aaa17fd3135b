"""Take from a process what it will not need: files outside its program, and every network. Linux only.

Landlock, a part of the kernel since 5.13, lets a process give up access to files for good; a network namespace of its
own holds no way to anywhere. Both need no rights, but a container or an old kernel may lack them, so what was had is
returned, not assumed.
"""

import ctypes
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

__all__ = ["confine"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_NO_NEW_PRIVILEGES = 38
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_ALL_ABI_1 = (1 << 13) - 1
_READ = 1 << 2 | 1 << 3
"""Read a file, list a folder."""
_PATH_BENEATH = 1
_ABI_QUESTION = 1
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def confine() -> tuple[str, ...]:
    """Give up all files but those of Python and its packages, which stay readable, and the network; for good.

    Returns:
        What was given up: `files`, `network`, both or neither.

    Source: Linux, Documentation/userspace-api/landlock.rst.
    """
    if sys.platform != "linux":
        return ()
    system = ctypes.CDLL(None, use_errno=True)
    # The network first: its namespace is described by files.
    done = {"network": _leave_network(system), "files": _give_up_files(system, _list_program())}
    return tuple(sorted(name for name, is_so in done.items() if is_so))


def _leave_network(system: ctypes.CDLL) -> bool:
    # The first needs the rights of root, the second a kernel that lets everybody have a namespace of users.
    return any(system.unshare(way) == 0 for way in (_NEW_NETWORK, _NEW_USER | _NEW_NETWORK))


def _list_program() -> set[Path]:
    """List the folders that something was imported from, and those of the system's libraries: more may be to come."""
    own = {Path(place) for place in (*sysconfig.get_paths().values(), *_LIBRARIES)}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and "." not in name:
            own.add(Path(file).parents[1 if hasattr(module, "__path__") else 0])
    return {place for place in own if place.is_dir()}


def _give_up_files(system: ctypes.CDLL, kept: Iterable[Path]) -> bool:
    abi = system.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ABI_QUESTION)
    if abi < 1 or system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    handled = _ALL_ABI_1 | (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0)  # to link elsewhere, to truncate
    ruleset = _Ruleset(handled)
    rules = system.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(ctypes.sizeof(ruleset)), 0)
    if rules < 0:
        return False
    try:
        for path in kept:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = _PathBeneath(_READ, folder)
            system.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(rule), 0)
            os.close(folder)
        return bool(system.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)
