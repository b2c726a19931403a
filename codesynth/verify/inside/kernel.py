"""Calls to Linux: set limits, mount folders, give up rights, filter system calls."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import struct
from contextlib import suppress

REFUSED_CALLS = (
    *("unshare", "setns", "clone3", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    *("add_key", "request_key", "keyctl", "shmget", "msgget", "semget", "mq_open"),
    *("memfd_create", "memfd_secret", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup"),
)
"""Calls that reach other processes, outlive a row, use memory that is not counted, or can do too
much."""
ALLOW, REFUSE, GREATER, ALL_BITS = 0x7FFF0000, 0x50026, 6, 7
NEW_USER_NAMESPACE, HIGHEST_SOCKET_FAMILY = 0x10000000, 16
"""A network namespace does not confine sockets of families above netlink (16), such as vsock."""
NOSUID_NODEV, MNT_DETACH, PR_SET_DUMPABLE = 6, 2, 4
NO_CAPABILITIES = struct.pack("Ii", 0x20080522, 0), bytes(24)

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: bytes | int) -> None:
    """Call a function of the C library."""
    made = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(libc, name)(*made) < 0:
        raise OSError(ctypes.get_errno(), f"cannot {name}")


def limit(**limits: int) -> None:
    """Lower limits of this process, by their names in ``resource``."""
    for name, value in limits.items():
        what = getattr(resource, f"RLIMIT_{name}")
        if not 0 <= resource.getrlimit(what)[1] <= value:  # -1: no limit
            resource.setrlimit(what, (value, value))


def drop_rights(uid: int | None) -> None:
    """Become a user without rights, for good."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    call("capset", *NO_CAPABILITIES)


def renew_folder(folder: str, size: int) -> None:
    """Replace the folder of a row by an empty one."""
    call("umount2", folder.encode(), MNT_DETACH)
    options = f"size={size},nr_inodes=16384,mode=1777".encode()
    call("mount", b"scratch", folder.encode(), b"tmpfs", NOSUID_NODEV, options)


def used_bytes() -> int:
    """Count the memory of all other processes; a page shared by n of them counts 1/n for each."""
    used = 0
    for pid in [name for name in os.listdir("/proc") if name.isdecimal() and name != "1"]:
        with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:  # or it has ended
            used += int(re.findall(r"Pss:\s+(\d+)", file.read())[0]) << 10
    return used


def confine() -> None:
    """Protect the server from the rows, and forbid system calls to both by a seccomp filter."""
    limit(CORE=1)  # no core dumps; 0 would not stop those that are piped to a program
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ALLOW))
    rules = dict.fromkeys(REFUSED_CALLS, b"")
    rules["clone"] = struct.pack("IIQQ", 0, ALL_BITS, NEW_USER_NAMESPACE, NEW_USER_NAMESPACE)
    rules["socket"] = struct.pack("IIQQ", 0, GREATER, HIGHEST_SOCKET_FAMILY, 0)
    for name, condition in rules.items():
        number = library.seccomp_syscall_resolve_name(name.encode())
        library.seccomp_rule_add_array(context, REFUSE, number, bool(condition), condition or None)
    if library.seccomp_load(context) != 0:
        raise OSError("cannot install the filter of system calls")
