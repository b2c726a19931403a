"""Put a forked process into namespaces of its own and take every power from it.

bubblewrap has made the outer room: no network, a read-only system, no home. Here each process of
a row gets a pid namespace and a /proc that no other process shares, a /tmp that the two of its row
share, and then nothing more.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NEWNS, NEWIPC, NEWPID = 0x20000, 0x8000000, 0x20000000
REMOUNT, BIND, NOSYMFOLLOW, DETACH = 0x20, 0x1000, 0x100, 2
ANY_NAMESPACE = 0x7E020000
RDONLY, NOSUID, NODEV, NOEXEC, REC, PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
CAPABILITY_VERSION = 0x20080522
SOCKET_FAMILIES = (1, 2, 10, 16)
"""Unix, IPv4, IPv6, netlink: those that a network namespace holds in. Vsock, for one, is not."""

AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
REFUSED_CALLS = (
    # new namespaces, other processes
    ("unshare", 272, 97), ("setns", 308, 268), ("ptrace", 101, 117), ("kcmp", 312, 272),
    ("process_vm_readv", 310, 270), ("process_vm_writev", 311, 271),
    # what outlives the process, or holds memory that no limit counts
    ("add_key", 248, 217), ("request_key", 249, 218), ("keyctl", 250, 219),
    ("shmget", 29, 194), ("msgget", 68, 186), ("semget", 64, 190), ("mq_open", 240, 180),
    ("memfd_create", 319, 279), ("memfd_secret", 447, 447),
    # wide doors to the kernel
    ("bpf", 321, 280), ("perf_event_open", 298, 241), ("userfaultfd", 323, 282),
    ("io_uring_setup", 425, 425), ("io_uring_enter", 426, 426), ("io_uring_register", 427, 427),
    ("open_by_handle_at", 304, 265), ("fanotify_init", 300, 262),
    # a row stays on the core of its worker
    ("sched_setaffinity", 203, 122),
)  # fmt: skip
"""Numbers on x86_64 and aarch64; on other machines the namespaces have to do without the filter."""
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
SETRLIMIT, PRLIMIT = (160, 164), (302, 261)
CORE_BYTES = 1
"""Too little for a file; and where the kernel pipes cores to a program, 1 alone stops it, not 0."""

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process of a row may use.

    Attributes:
        memory_bytes: address space.
        processes: of all processes and threads of its user.
        scratch_bytes: size of its /tmp.
    """

    memory_bytes: int
    processes: int
    scratch_bytes: int = 64 << 20

    def apply(self) -> None:
        """Limit the calling process and all it will start, for good."""
        for what, value in (
            (resource.RLIMIT_AS, self.memory_bytes),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_FSIZE, self.scratch_bytes),
            (resource.RLIMIT_NOFILE, 256),
            (resource.RLIMIT_CORE, CORE_BYTES),
            (resource.RLIMIT_MEMLOCK, 0),
        ):
            hard = resource.getrlimit(what)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(what, (value, value))


class Walls:
    """What a new process does to shut itself in, prepared so that doing it takes little.

    A forked Python pays for each page it touches, so every argument is made here, once, and the
    process only makes the calls.

    Args:
        limits: for the size of /tmp.
        uid: the user to become; None to stay.
    """

    def __init__(self, limits: Limits, uid: int | None) -> None:
        self._uid = uid
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self._unshare, self._setns = libc.unshare, libc.setns
        scratch = f"size={limits.scratch_bytes},nr_inodes=4096,mode=1777".encode()
        self._scratch = [_call("mount", b"tmpfs", b"/tmp", b"tmpfs", NOSUID | NODEV, scratch)]
        self._rid = [_call("umount2", b"/tmp", DETACH)]
        self._room = [
            _call("unshare", NEWNS | NEWIPC),
            _call("mount", None, b"/", None, REC | PRIVATE, None),
            _call("mount", b"proc", b"/proc", b"proc", RDONLY | NOSUID | NODEV | NOEXEC, None),
            _call("chdir", b"/tmp"),
        ]
        wary = REMOUNT | BIND | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW
        self._wary = [_call("mount", None, b"/tmp", None, wary, None), _call("chdir", b"/tmp")]
        self._hidden = [_call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)]
        self._powers = [
            _call("capset", struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)),
            _call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0),
            _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        ]
        if platform.machine() in AUDIT_ARCHITECTURE:
            self._program = ctypes.create_string_buffer(_filter(platform.machine()))
            count, address = len(self._program) // 8, ctypes.addressof(self._program)
            pointer = struct.pack("HxxxxxxQ", count, address)
            self._powers.append(_call("prctl", PR_SET_SECCOMP, 2, pointer, 0, 0))

    def open_scratch(self) -> None:
        """Mount an empty /tmp for the processes that are started from now on."""
        _make(self._scratch)

    def close_scratch(self) -> None:
        """Take that /tmp away; what is in it goes with the last process that sees it."""
        _make(self._rid)

    def begin_namespace(self) -> None:
        """Let the next child be the first process of a new pid namespace."""
        _check(self._unshare(NEWPID), "unshare")

    def end_namespace(self) -> None:
        """Let the children after that be ordinary ones again."""
        _check(self._setns(self._home, NEWPID), "setns")

    def shut(self, *, wary: bool) -> None:
        """Give the calling process its own /proc and nothing else; drop all its powers.

        Args:
            wary: follow no links and run no programs in /tmp, where another process makes files;
                and keep what this one has open and in memory from programs that it starts.
        """
        _make(self._room + self._wary if wary else self._room)
        if self._uid is not None:
            os.setgroups([])
            os.setresgid(self._uid, self._uid, self._uid)
            os.setresuid(self._uid, self._uid, self._uid)
        _make(self._powers + self._hidden if wary else self._powers)


def _make(calls: Iterable[tuple[Any, list[Any], str]]) -> None:
    for function, arguments, name in calls:
        _check(function(*arguments), name)


def _call(name: str, *arguments: bytes | int | None) -> tuple[Any, list[Any], str]:
    """Prepare a call of the C library: the function, its arguments, and what to call it."""
    made = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    told = b" ".join(one for one in arguments[:2] if isinstance(one, bytes) and one.isascii())
    return getattr(libc, name), made, f"{name} {told.decode()}".strip("\0 ")


def _filter(machine: str) -> bytes:
    """Assemble the seccomp filter: classic BPF over ``struct seccomp_data``."""
    column = list(AUDIT_ARCHITECTURE).index(machine)

    def load(offset: int) -> bytes:
        return struct.pack("HBBI", 0x20, 0, 0, offset)

    def when(code: int, value: int, result: int) -> bytes:
        return struct.pack("HBBI", code, 0, 1, value) + struct.pack("HBBI", 0x06, 0, 0, result)

    equal, at_least, any_bit, allow = 0x15, 0x35, 0x45, 0x7FFF0000
    refuse = 0x50000 | errno.EPERM

    def guarded(number: int, argument: int, code: int, value: int) -> list[bytes]:
        call = struct.pack("HBBI", equal, 0, 3, number)
        return [call, load(16 + 8 * argument), when(code, value, refuse), load(0)]

    parts = [
        load(4),
        struct.pack("HBBI", equal, 1, 0, AUDIT_ARCHITECTURE[machine]),
        struct.pack("HBBI", 0x06, 0, 0, refuse),
        load(0),
        when(at_least, 0x40000000, refuse),
        *(when(equal, numbers[column], refuse) for _, *numbers in REFUSED_CALLS),
        when(equal, CLONE3[column], 0x50000 | errno.ENOSYS),
        *guarded(CLONE[column], 0, any_bit, ANY_NAMESPACE),
        *guarded(SETRLIMIT[column], 0, equal, resource.RLIMIT_CORE),
        *guarded(PRLIMIT[column], 1, equal, resource.RLIMIT_CORE),
        struct.pack("HBBI", equal, 0, 2 + 2 * len(SOCKET_FAMILIES), SOCKET[column]),
        load(16),
        *(when(equal, family, allow) for family in SOCKET_FAMILIES),
        struct.pack("HBBI", 0x06, 0, 0, 0x50000 | errno.EAFNOSUPPORT),
        struct.pack("HBBI", 0x06, 0, 0, allow),
    ]
    return b"".join(parts)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")
