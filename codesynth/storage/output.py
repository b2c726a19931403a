"""Write whole lines to a file that gets its name only when it is finished."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

from codesynth.errors import BusyError, ConfigError, OutputError
from codesynth.storage.records import STANDARD, count_lines, open_stream

_KEPT_BYTES = 64 << 10  # lines are collected, because a system call for each costs much


class Output:
    """Lines to standard output, a file, or a special file such as a FIFO.

    A regular file is written as ``PATH.partial``, which is locked during the run, and gets its
    name in ``commit``. To other outputs each line is written at once. If a full disk cuts a line,
    its beginning is removed again, also if standard output is a file.

    Attributes:
        path: the finished file; None if the output is not a regular file.
        has_leftover: an interrupted run left lines in the partial file.

    Raises:
        BusyError: another run holds the file.
        OutputError: the file cannot be opened, locked or written.
    """

    def __init__(self, path: str | None) -> None:
        self.name = "<stdout>" if path in (None, STANDARD) else str(path)
        self.path: Path | None = None
        self._waiting = bytearray()
        self._gzip: zlib._Compress | None = None
        self.has_leftover = self._committed = False
        if path is not None and not Path(path).name:
            raise ConfigError(f'"{path}" is not the name of a file')
        with self._translated("write" if self.name == "<stdout>" else "open"):
            if path is None or path == STANDARD:
                self._fd = 1
                os.set_blocking(1, True)  # another program may have changed that
                os.write(1, b"")  # fails at once where it is closed or full
            elif _is_special(path):
                self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            else:
                self.path = Path(os.path.realpath(path))
                self.partial = self.path.with_name(self.path.name + ".partial")
                self._fd = _open_locked(self.partial)
                self.has_leftover = os.fstat(self._fd).st_size > 0
        self.is_terminal = os.isatty(self._fd)
        self.is_pipe = stat.S_ISFIFO(os.fstat(self._fd).st_mode)

    def exists(self) -> bool:
        """Tell whether there is a finished file of this name."""
        return self.path is not None and self.path.exists()

    def count_rows(self) -> int:
        """Count the rows of the finished file of this name, which must be there."""
        with self._translated("read"), open_stream(str(self.path)) as file:
            return count_lines(file)

    def start(self) -> None:
        """Empty the partial file; called when its old lines are no longer needed."""
        if self.path is not None:
            with self._translated("write"):
                os.ftruncate(self._fd, 0)
            if self.path.suffix == ".gz":
                self._gzip = zlib.compressobj(6, wbits=31)

    def write(self, line: bytes) -> None:
        """Write one line, given without its newline. To a file it is written at ``flush`` or later.

        Raises:
            BrokenPipeError: the reader went away.
        """
        self._waiting += line
        self._waiting += b"\n"
        if self.path is None or len(self._waiting) > _KEPT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the lines that wait."""
        if self._waiting:
            lines, self._waiting = self._waiting, bytearray()
            self._write_whole(lines if self._gzip is None else self._gzip.compress(lines))

    def _finish(self) -> None:
        self.flush()
        if self._gzip is not None:
            rest, self._gzip = self._gzip.flush(), None
            self._write_whole(rest)

    def _write_whole(self, data: bytes | bytearray) -> None:
        done = 0
        with self._translated("write"):
            try:
                while done < len(data):
                    done += os.write(self._fd, memoryview(data)[done:])
            except OSError:
                self._take_back(done - data.rfind(b"\n", 0, done) - 1)
                raise

    def _take_back(self, count: int) -> None:
        """Remove the beginning of a line from a file, unless another process wrote after it."""
        status = os.fstat(self._fd)
        if stat.S_ISREG(status.st_mode) and os.lseek(self._fd, 0, os.SEEK_CUR) == status.st_size:
            os.ftruncate(self._fd, status.st_size - count)
            os.lseek(self._fd, 0, os.SEEK_END)

    def commit(self) -> None:
        """Give the finished file its name; its bytes are on the disk before that."""
        if self.path is None:
            return
        self._finish()
        with self._translated("write"):
            if self.path.exists():
                os.fchmod(self._fd, stat.S_IMODE(self.path.stat().st_mode))
            os.fsync(self._fd)
            self.partial.replace(self.path)
            self._committed = True
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)  # rename(2) alone does not last through a power cut
            os.close(folder)

    def discard(self) -> None:
        """Remove the finished file of an earlier run; the empty partial file goes in ``close``."""
        if self.path is not None:
            with self._translated("remove"):
                self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close and unlock the file. Lines that were not committed stay in the partial file."""
        try:
            if self._waiting or os.fstat(self._fd).st_size:
                self._finish()
            elif self.path is not None and not self._committed:
                self.partial.unlink(missing_ok=True)
        finally:
            if self._fd > 2:
                os.close(self._fd)

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as exc:
            is_lost = isinstance(exc, FileNotFoundError)
            why = "its folder does not exist" if is_lost else exc.strerror
            raise OutputError(f"cannot {verb} {self.name}: {why}") from exc
        except (EOFError, zlib.error) as exc:
            why = "it is cut or damaged. Replace it with --overwrite"
            raise OutputError(f"cannot {verb} {self.name}: {why}") from exc


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - not so for a link to itself
    except FileNotFoundError:
        return False


def _open_locked(partial: Path) -> int:
    """Open and lock a file; again, if it was renamed between the two."""
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
