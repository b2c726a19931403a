"""Run each row's code against the tests at hand, many rows at once, and give verdicts in order."""

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self

from codesynth.quality.sandbox import Sandbox, available_cores

Status = Literal["passed", "failed", "error", "timeout", "syntax_error", "no_tests"]

INSTRUCTION_KEYS = ("instruction", "generated_instruction", "prompt")
"""Columns looked in, in this order, where no instruction key is given."""
ROWS_AHEAD = 32
"""Rows held for each job: enough that a slow row does not stop the others."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What running a row's code showed.

    Attributes:
        status: ``failed`` is a wrong answer, ``error`` an exception or a crash; ``no_tests``
            means that the code could be imported.
        tests_run: asserts, doctest examples or unittest methods that were begun.
        tests_passed: those that held.
        seconds: of wall time.
        message: what went wrong first, in a line.
    """

    status: Status
    tests_run: int = 0
    tests_passed: int = 0
    seconds: float = 0.0
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the column ``verification``."""
        return asdict(self)


class _Stop:
    """Mark the end of the rows, and what the row source raised there."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Verifier:
    r"""Verify rows in sandboxes; a context manager.

    >>> row = {"generated_code": "def one():\n    return 1", "test": "assert one() == 1"}
    >>> with Verifier(test_key="test", jobs=1, unsafe=True) as verifier:
    ...     [verification.status for verification in verifier.verify([row])]
    ['passed']

    The tests are: the test column (statements with asserts, or HumanEval's ``check(candidate)``
    with the row's ``entry_point``, or test functions or classes); else the doctests in instruction
    and code; else the code is only imported. Code that only continues its instruction, a stub, is
    taken as that.

    Args:
        test_key: column with tests; None looks for doctests only.
        instruction_key: column with the instruction; None takes the first of INSTRUCTION_KEYS.
        code_key: column with the code.
        timeout: seconds for one row.
        memory_bytes: memory for one row.
        jobs: rows at once; None is one for each core.
        unsafe: run without a sandbox, with limits on time and memory only.

    Raises:
        SandboxUnavailable: on entry, where no sandbox can be made.
    """

    def __init__(
        self,
        *,
        test_key: str | None,
        instruction_key: str | None = None,
        code_key: str = "generated_code",
        timeout: float = 10.0,
        memory_bytes: int = 512 << 20,
        jobs: int | None = None,
        unsafe: bool = False,
    ) -> None:
        self._test_key, self._code_key = test_key, code_key
        self._instruction_keys = (instruction_key,) if instruction_key else INSTRUCTION_KEYS
        self._new_sandbox = partial(
            Sandbox, timeout=timeout, memory_bytes=memory_bytes, unsafe=unsafe
        )
        self._jobs = jobs or len(available_cores())
        self._numbers = count()
        self._sandboxes: list[Sandbox] = []
        self._mine = threading.local()
        self._pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="verify")

    def __enter__(self) -> Self:
        try:
            self._pool.submit(lambda: self._sandbox().start()).result()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def verify(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Verification]:
        """Verify each row, in order; rows are pulled from another thread, a bounded number ahead.

        Raises:
            SandboxUnavailable: sandboxes can no longer be made.
            Exception: whatever the rows' iterator raises, after the rows before it.
        """
        room = threading.Semaphore(self._jobs * ROWS_AHEAD)
        ahead: queue.SimpleQueue[Future[Verification] | _Stop] = queue.SimpleQueue()
        stopped = threading.Event()
        feeder = threading.Thread(
            target=self._feed, args=(rows, ahead, room, stopped), name="verify-rows", daemon=True
        )
        feeder.start()
        try:
            while not isinstance(item := ahead.get(), _Stop):
                yield item.result()
                room.release()
            if item.error is not None:
                raise item.error
        finally:
            stopped.set()
            room.release()

    def _feed(
        self,
        rows: Iterable[Mapping[str, Any]],
        ahead: "queue.SimpleQueue[Future[Verification] | _Stop]",
        room: threading.Semaphore,
        stopped: threading.Event,
    ) -> None:
        error: BaseException | None = None
        try:
            for row in rows:
                room.acquire()
                if stopped.is_set():
                    return
                ahead.put(self._pool.submit(self._verify_one, row, stopped))
        except BaseException as exc:
            error = exc
        finally:
            ahead.put(_Stop(error))

    def _verify_one(self, row: Mapping[str, Any], stopped: threading.Event) -> Verification:
        if stopped.is_set():
            return Verification("error", message="stopped")
        code = row.get(self._code_key)
        if not isinstance(code, str):
            return Verification("error", message=f'no text in the column "{self._code_key}"')
        instruction = next((row[key] for key in self._instruction_keys if key in row), None)
        entry = row.get("entry_point")
        answer = self._sandbox().judge(
            {
                "code": code,
                "instruction": instruction if isinstance(instruction, str) else None,
                "test": _test_text(row.get(self._test_key)) if self._test_key else None,
                "entry_point": entry if isinstance(entry, str) else None,
            }
        )
        return Verification(**answer)

    def _sandbox(self) -> Sandbox:
        """Get the calling thread's own sandbox."""
        sandbox: Sandbox | None = getattr(self._mine, "sandbox", None)
        if sandbox is None:
            sandbox = self._mine.sandbox = self._new_sandbox(index=next(self._numbers))
            self._sandboxes.append(sandbox)
        return sandbox

    def _close(self) -> None:
        for sandbox in self._sandboxes:
            sandbox.interrupt()
        self._pool.shutdown(cancel_futures=True)
        for sandbox in self._sandboxes:
            sandbox.close()


def _test_text(column: object) -> str | None:
    """Read a test column: a text, or a list of statements; None if there is nothing in it."""
    if isinstance(column, list):
        column = "\n".join(map(str, column))
    return column if isinstance(column, str) and column.strip() else None
