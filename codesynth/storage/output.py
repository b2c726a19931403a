"""Lines out: whole ones, to a file that has its name only when it is finished."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path

from codesynth.errors import BusyError, OutputError
from codesynth.storage.records import STANDARD

_KEPT_BYTES = 16 << 10  # lines on their way to a file: a system call for each costs much


class Output:
    """Lines to standard output, a file, or a special file such as a FIFO.

    A regular file is written as ``PATH.partial``, which is locked while the run lasts, and gets
    its name in ``commit``. Elsewhere each line goes to the system by itself. One that is cut by a
    full disk is taken back, so what is there is whole; in a file behind standard output, too.

    Raises:
        BusyError: another run holds the file.
        OutputError: the file cannot be opened, locked or written.
    """

    def __init__(self, path: str | None) -> None:
        self.name = "<stdout>" if path in (None, STANDARD) else str(path)
        self.path: Path | None = None
        self._gzip: gzip.GzipFile | None = None
        self._lines: list[bytes] = []
        self._bytes = 0
        self._started = False
        with self._translated("open"):
            if path is None or path == STANDARD:
                self._fd = 1
                if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            elif _is_special(path):
                self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            else:
                self.path = Path(os.path.realpath(path))
                self.partial = self.path.with_name(self.path.name + ".partial")
                self._fd = _open_locked(self.partial)

    @property
    def is_terminal(self) -> bool:
        """Tell whether people see the lines."""
        return os.isatty(self._fd)

    @property
    def is_pipe(self) -> bool:
        """Tell whether another program reads the lines."""
        return stat.S_ISFIFO(os.fstat(self._fd).st_mode)

    def exists(self) -> bool:
        """Tell whether there is a finished file of this name."""
        return self.path is not None and self.path.exists()

    def count_rows(self) -> int:
        """Count the rows of the finished file of this name.

        Raises:
            OutputError: it cannot be read.
        """
        if self.path is None or not self.path.exists():
            return 0
        with self._translated("read"):
            opened = gzip.open if self.path.suffix == ".gz" else open
            with opened(self.path, "rb") as file:
                blocks = iter(lambda: file.read(1 << 20), b"")
                return sum(block.count(b"\n") for block in blocks)

    @property
    def has_leftover(self) -> bool:
        """Tell whether an interrupted run left lines in the partial file."""
        return self.path is not None and os.fstat(self._fd).st_size > 0

    def start(self) -> None:
        """Empty the partial file; called once it is clear that nothing in it is missed."""
        self._started = True
        if self.path is None:
            return
        with self._translated("write"):
            os.ftruncate(self._fd, 0)
            if self.path.suffix == ".gz":
                self._file = open(self._fd, "wb", closefd=False)
                self._gzip = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._file, mtime=0)

    def write(self, line: bytes) -> None:
        """Write one line, given without its newline; to a file at ``flush`` or some lines later.

        Raises:
            BrokenPipeError: the reader went away.
        """
        self._lines.append(line)
        self._bytes += len(line)
        if self.path is None or self._bytes > _KEPT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the lines that wait."""
        if not self._lines:
            return
        data = b"\n".join((*self._lines, b""))
        self._lines.clear()
        self._bytes = 0
        with self._translated("write"):
            if self._gzip is not None:
                self._gzip.write(data)
            else:
                self._write_whole(data)

    def _write_whole(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                try:
                    done += os.write(self._fd, memoryview(data)[done:] if done else data)
                except BlockingIOError:  # standard output was left non-blocking
                    self._wait_for_room()
        except OSError:
            self._take_back(done - data.rfind(b"\n", 0, done) - 1)
            raise

    def _wait_for_room(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll()

    def _take_back(self, count: int) -> None:
        """Cut off the bytes a file got of a line, unless another process has written behind it."""
        status = os.fstat(self._fd)
        if stat.S_ISREG(status.st_mode) and os.lseek(self._fd, 0, os.SEEK_CUR) == status.st_size:
            os.ftruncate(self._fd, status.st_size - count)
            os.lseek(self._fd, 0, os.SEEK_END)

    def reader_is_gone(self) -> bool:
        """Tell whether the other end of a pipe was closed, without writing to it."""
        poll = select.poll()
        poll.register(self._fd, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def commit(self) -> None:
        """Give the finished file its name; its bytes are on the disk before that."""
        if self.path is None:
            return
        self.flush()
        with self._translated("write"):
            self._finish_gzip()
            if self.path.exists():
                os.fchmod(self._fd, stat.S_IMODE(self.path.stat().st_mode))
            os.fsync(self._fd)
            self.partial.replace(self.path)
            _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Take the partial file away, and the finished one of an earlier run."""
        if self.path is not None:
            with self._translated("remove"):
                self.path.unlink(missing_ok=True)
                self.partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file and its lock; what was not committed stays as the partial file."""
        try:
            self.flush()
            with self._translated("close"):
                self._finish_gzip()
                if self.path is not None and not self._started and not self.has_leftover:
                    self.partial.unlink(missing_ok=True)
        finally:
            if self._fd > 2:
                os.close(self._fd)

    def _finish_gzip(self) -> None:
        if self._gzip is not None:
            stream, self._gzip = self._gzip, None
            stream.close()
            self._file.close()

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputError(f"cannot {verb} {self.name}: {exc.strerror}") from exc


def _is_special(path: str) -> bool:
    """Tell a FIFO or device, which is written as it is, from a file that is made or replaced."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return not stat.S_ISREG(mode)


def _open_locked(partial: Path) -> int:
    """Open and lock, and see that the locked file is still the one of that name."""
    while True:
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(fd)
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise BusyError(f"another run holds {partial.with_suffix('')}") from exc
            raise OutputError(
                f"cannot lock {partial}: {exc.strerror}. Two runs could spoil each other "
                "unnoticed; write to a file system with locks"
            ) from exc
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), partial.stat()):
                return fd
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut (rename(2) alone does not promise it)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
