"""Take rights away from the processes of rows."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct

NOSUID, NODEV, MNT_DETACH = 2, 4, 2
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 22, 36, 38
NO_CAPABILITIES = struct.pack("Ii", 0x20080522, 0), bytes(24)
NEW_NAMESPACES = 0x7E020000
SOCKET_FAMILIES = (1, 2, 10, 16)
"""Unix, IPv4, IPv6, netlink: those that a network namespace contains. Vsock, for one, is not."""
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
REFUSED_CALLS = (
    # (x86_64, aarch64): unshare, setns, ptrace, kcmp, process_vm_readv, process_vm_writev
    *((272, 97), (308, 268), (101, 117), (312, 272), (310, 270), (311, 271)),
    # kept by the kernel after the row: add_key, request_key, keyctl, shmget, msgget, semget, mq_open
    *((248, 217), (249, 218), (250, 219), (29, 194), (68, 186), (64, 190), (240, 180)),
    # memory that nothing counts: memfd_create, memfd_secret
    *((319, 279), (447, 447)),
    # bpf, perf_event_open, userfaultfd, io_uring_setup, open_by_handle_at, fanotify_init
    *((321, 280), (298, 241), (323, 282), (425, 425), (304, 265), (300, 262)),
)
CLONE, CLONE3, SOCKET, SETRLIMIT, PRLIMIT = (56, 220), (435, 435), (41, 198), (160, 164), (302, 261)

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: bytes | int) -> None:
    """Call the C library; raises OSError where it refuses."""
    made = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(libc, name)(*made) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {name}: {os.strerror(number)}")


def mount_scratch(path: str, size: int) -> None:
    """Mount an empty file system of ``size`` bytes."""
    options = f"size={size},nr_inodes=16384,mode=1777".encode()
    call("mount", b"scratch", path.encode(), b"tmpfs", NOSUID | NODEV, options)


def limit(what: int, value: int) -> None:
    """Limit the calling process, and all that it starts, for good."""
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def drop_rights(uid: int | None) -> None:
    """Become another user, if one is given, and drop all capabilities."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    call("capset", *NO_CAPABILITIES)


def refuse_system_calls() -> None:
    """Install a seccomp filter in the calling process; its children have it too."""
    # Too little for a file. Where the kernel pipes cores to a program, 1 stops it and 0 does not.
    limit(resource.RLIMIT_CORE, 1)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if platform.machine() in MACHINES:
        program = ctypes.create_string_buffer(_filter(platform.machine()))
        pointer = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(program))
        call("prctl", PR_SET_SECCOMP, 2, pointer, 0, 0)


def _filter(machine: str) -> bytes:
    """Assemble the filter: classic BPF over ``struct seccomp_data``."""
    column = list(MACHINES).index(machine)
    equal, at_least, any_bit = 0x15, 0x35, 0x45

    def op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    def load(offset: int) -> bytes:
        return op(0x20, offset)

    allow, refuse = op(0x06, 0x7FFF0000), op(0x06, 0x50000 | errno.EPERM)

    def guard(calls: tuple[int, int], argument: int, code: int, value: int) -> list[bytes]:
        start = [op(equal, calls[column], 0, 4), load(16 + 8 * argument)]
        return [*start, op(code, value, 0, 1), refuse, load(0)]

    parts = [load(4), op(equal, MACHINES[machine], 1), refuse, load(0)]
    parts += [op(at_least, 0x40000000, 0, 1), refuse]
    for calls in REFUSED_CALLS:
        parts += [op(equal, calls[column], 0, 1), refuse]
    parts += [op(equal, CLONE3[column], 0, 1), op(0x06, 0x50000 | errno.ENOSYS)]
    parts += guard(CLONE, 0, any_bit, NEW_NAMESPACES)
    parts += guard(SETRLIMIT, 0, equal, resource.RLIMIT_CORE)
    parts += guard(PRLIMIT, 1, equal, resource.RLIMIT_CORE)
    parts += [op(equal, SOCKET[column], 0, 2 + 2 * len(SOCKET_FAMILIES)), load(16)]
    for family in SOCKET_FAMILIES:
        parts += [op(equal, family, 0, 1), allow]
    return b"".join([*parts, op(0x06, 0x50000 | errno.EAFNOSUPPORT), allow])
