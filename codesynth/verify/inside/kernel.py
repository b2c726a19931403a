"""What the server asks of Linux: limits, mounts, fewer rights, a filter of system calls."""

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
"""They reach other processes, outlive a row, hold memory that nothing counts, or are too wide."""
ALLOW, REFUSE, EQUAL, GREATER, ALL_BITS = 0x7FFF0000, 0x50026, 4, 6, 7
NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
SOCKET_FAMILIES = {1, 2, 10, 16}
"""Unix, IPv4, IPv6, netlink: those that a network namespace contains. Vsock, for one, is not."""
NOSUID_NODEV, MNT_DETACH, PR_SET_DUMPABLE = 6, 2, 4
NO_CAPABILITIES = struct.pack("Ii", 0x20080522, 0), bytes(24)

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: bytes | int) -> None:
    """Call a function of the C library."""
    made = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(libc, name)(*made) < 0:
        raise OSError(ctypes.get_errno(), f"cannot {name}")


def limit(what: int, value: int) -> None:
    """Set a limit of this process, if it is not lower already."""
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def confine() -> None:
    """Set up what holds for the server and all rows."""
    # Too little for a file; where cores are piped to a program, 1 stops it and 0 does not.
    limit(resource.RLIMIT_CORE, 1)
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    refuse_system_calls()
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where the machine runs out of memory, rows go first


def drop_rights(uid: int | None) -> None:
    """Become a user without rights, for good."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    call("capset", *NO_CAPABILITIES)


def mount_scratch(folder: str, size: int) -> None:
    """Mount an empty folder for a row."""
    options = f"size={size},nr_inodes=16384,mode=1777".encode()
    call("mount", b"scratch", folder.encode(), b"tmpfs", NOSUID_NODEV, options)


def unmount(folder: str) -> None:
    """Drop a row's folder with all that is in it."""
    call("umount2", folder.encode(), MNT_DETACH)


def used_bytes() -> int:
    """Count the memory of all other processes; a page that n of them share counts for 1/n."""
    used = 0
    for pid in [name for name in os.listdir("/proc") if name.isdecimal() and name != "1"]:
        with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:  # or it has ended
            used += int(re.findall(r"Pss:\s+(\d+)", file.read())[0]) << 10
    return used


def refuse_system_calls() -> None:
    """Install a seccomp filter; the processes that are forked have it too."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ALLOW))

    def refuse(name: str, argument: int = 0, *condition: int) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        test = struct.pack("IIQQ", argument, *condition) if condition else None
        library.seccomp_rule_add_array(context, REFUSE, number, int(bool(condition)), test)

    for name in REFUSED_CALLS:
        refuse(name)
    for flag in NAMESPACES:
        refuse("clone", 0, ALL_BITS, flag, flag)
    for family in set(range(64)) - SOCKET_FAMILIES:
        refuse("socket", 0, EQUAL, family, 0)
    refuse("socket", 0, GREATER, 63, 0)
    refuse("setrlimit", 0, EQUAL, resource.RLIMIT_CORE, 0)
    refuse("prlimit64", 1, EQUAL, resource.RLIMIT_CORE, 0)
    if library.seccomp_load(context) != 0:
        raise OSError("cannot install the filter of system calls")
