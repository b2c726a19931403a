"""Rows for ``verify``, written as text: ``### name``, the code, then columns as ``--- column``.

They are no ``.py`` files, so that nothing imports them: some are hostile.
"""

import re
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "verify"


def programs(name: str) -> dict[str, dict[str, str]]:
    """Read the rows of a file by their names; the code is the column ``generated_code``."""
    titles = re.split(r"(?m)^### (.+)\n", (DATA / name).read_text(encoding="utf-8"))
    rows = {}
    for title, body in zip(titles[1::2], titles[2::2], strict=True):
        columns = re.split(r"(?m)^--- (\w+)\n", f"--- generated_code\n{body}")
        rows[title] = {k: v.rstrip("\n") for k, v in zip(columns[1::2], columns[2::2], strict=True)}
    return rows
