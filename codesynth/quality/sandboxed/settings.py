"""What the outside decides about a sandbox; light to import, as the outside does."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """What the runner is told, as JSON in its first argument.

    Attributes:
        timeout: seconds for one row.
        memory_bytes: for each process of a row, and for all of them together.
        processes: most processes and threads of a row.
        core: the core to stay on; None for any.
        uid: the user that rows run as; None to stay who this is.
        confined: False runs rows with limits only.
    """

    timeout: float
    memory_bytes: int
    processes: int
    core: int | None = None
    uid: int | None = None
    confined: bool = True
