"""Files of rows, and a disk that is full."""

import gzip
import json
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.command import lines


def written(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows to a file; return its path."""
    path.write_bytes(lines(*rows))
    return path


def rows_of(path: Path) -> list[Any]:
    """Read the rows of a file, which may be gzip."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in data.splitlines()]


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: a full disk for everyone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
