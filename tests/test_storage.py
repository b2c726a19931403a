"""Lines in: nothing lost, nothing changed, in order again."""

import gzip
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files import files_limited_to

from codesynth.codec import loads
from codesynth.errors import ConfigError, InputError, OutputError
from codesynth.models import META_KEY, Failure, Record, Row
from codesynth.storage import Pool, Reorder, check_inputs, read_records, records, row_line

TEXT = st.text(st.characters(exclude_categories=[]), max_size=9)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
ROW = st.dictionaries(TEXT, VALUE, max_size=3)
SPACE = st.text(" \t", max_size=3)
LINE = (
    st.binary(max_size=30)
    | ROW.map(lambda row: json.dumps(row).encode())
    | st.sampled_from([b"", b" \t\r", b"\xef\xbb\xbf", b"\x00", b'{"a": 1', b"[1]", b"\xff"])
)
STREAM = st.lists(LINE, max_size=8).map(b"\n".join)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def spaced(row: dict[str, Any], space: str) -> bytes:
    """Write a row with white space around every token."""
    separators = (f"{space},{space}", f"{space}:{space}")
    text = json.dumps(row, separators=separators)
    return f"{{{space}{text[1:-1]}{space}}}".encode()


# Lines in.


@given(data=STREAM, packed=st.booleans())
def test_any_bytes_are_read_as_their_lines(data: bytes, packed: bool, folder: Path) -> None:
    path = folder / "rows"
    path.write_bytes(gzip.compress(data) if packed else data)
    if not packed and data[:2] == b"\x1f\x8b":
        return
    expected = [
        (number, line.strip(b" \t\r\n"))
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
        if line.strip(b" \t\r\n")
    ]
    records = list(read_records([str(path)]))
    assert [(record.line, record.raw) for record in records] == [
        (number, line if record.error else line.replace(b"\r", b" "))
        for (number, line), record in zip(expected, records, strict=True)
    ]
    assert [record.index for record in records] == list(range(len(expected)))
    for record in records:
        if record.error is None:
            assert loads(record.raw) == record.fields
        else:
            assert record.error.kind in ("invalid_json", "not_an_object")


def test_inputs_are_checked_without_being_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "rows").write_bytes(b"")
    check_inputs(["-", str(tmp_path / "fifo"), str(tmp_path / "rows")])
    for name in ("none", "."):
        with pytest.raises(InputError, match="cannot read "):
            check_inputs([str(tmp_path / name)])


# Rows out.


@given(row=ROW, columns=ROW, space=SPACE)
def test_a_row_keeps_every_byte_of_the_input_row(
    row: dict[str, Any], columns: dict[str, Any], space: str
) -> None:
    row = {key: value for key, value in row.items() if key not in columns}
    raw = spaced(row, space)
    line, length = row_line(Record(0, raw, row), columns)
    assert line.startswith(raw[:-1].rstrip())
    assert json.loads(line) == {**row, **json.loads(json.dumps(columns))}
    assert json.loads(line[:length] + b"}") == row


@given(row=ROW, value=VALUE, space=SPACE, place=st.integers(0, 4))
def test_an_earlier_step_s_object_becomes_the_input_of_the_new_one(
    row: dict[str, Any], value: Any, space: str, place: int
) -> None:
    row.pop(META_KEY, None)
    members = list(row.items())
    members.insert(place, (META_KEY, value))
    whole = dict(members)
    line, _ = row_line(Record(0, spaced(whole, space), whole), {META_KEY: {"n": 1}})
    assert json.loads(line) == {**row, META_KEY: {"n": 1, "input": value}}
    raw = b'{"a":1.00,"_codesynth":{"n":12,"x":[0.1,1.5]},"b":"}{"}'
    line, _ = row_line(Record(0, raw, loads(raw)), {META_KEY: {"n": 1}})
    assert line == (b'{"a":1.00,"b":"}{","_codesynth":{"n":1,"input":{"n":12,"x":[0.1,1.5]}}}')


# The order of rows.


def row(i: int) -> Row:
    failure = None if i % 3 else Failure("timeout", "late", None, i)
    return Row(b'{"i":%d}' % i, failure, f"subject\n{i}", "answer", i, i + 1)


@given(st.permutations(range(12)), st.integers(0, 90), st.integers(0, 12))
def test_rows_come_out_in_order_whatever_came_first(
    order: list[int], memory: int, missing: int
) -> None:
    reorder = Reorder(memory)
    came = [i for i in order if i != missing]
    put = [list(reorder.put(i, row(i))) for i in came]
    out = list(itertools.chain(*put))
    assert len(out) == missing if missing < 12 else 12
    out += reorder.rest()
    assert out == [row(i) for i in range(12) if i != missing]
    for i, rows in zip(came, put, strict=True):
        assert not rows or rows[0] == row(i)


def test_a_full_temporary_folder_is_told(tmp_path: Path) -> None:
    rows = tmp_path / "rows.gz"
    rows.write_bytes(gzip.compress(b'{"prompt":"%b"}\n' % (b"x" * 1000) * 100))
    with files_limited_to(20_000):
        with pytest.raises(OutputError, match="temporary file: File too large"):
            list(Reorder(memory=0).put(1, Row(b"x" * 30_000)))
        with pytest.raises(OutputError, match="Set TMPDIR to a folder with room"):
            Pool([str(rows)], "prompt")


# Other formats, and lines without end.


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("rows.json", b'[\n  {"prompt": "a"},\n  {"prompt": "b"}\n]\n', "a JSON array"),
        ("rows", b' [{"prompt": "a"}, {"prompt": "b"}]', "a JSON array"),
        ("rows.csv", b'prompt,n\n"a, b",1\nb,2\n', "a CSV file"),
        ("rows.txt", b"prompt,n\na,1\nb,2\n", "a CSV file"),
        ("it's.csv", b"prompt\na\nb\n", "a CSV file"),
        ("rows.csv.gz", gzip.compress(b"prompt\na\nb\n", mtime=0), "a CSV file"),
    ],
)
def test_another_format_is_refused_with_a_command_that_converts_it(
    name: str, content: bytes, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name} is {kind}, not JSONL. Convert it: ") as caught:
        list(read_records([name]))
    command = str(caught.value).partition("Convert it: ")[2]
    if command.startswith("jq") and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    subprocess.run(["bash", "-c", command], check=True)
    assert [str(each.fields["prompt"])[0] for each in read_records(["rows.jsonl"])] == ["a", "b"]
    Path("rows").write_bytes(b"PAR1\x00\x00")
    with pytest.raises(ConfigError, match="is a parquet file"):
        list(read_records(["rows"]))


def test_a_line_without_end_is_a_failure_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / "rows"
    path.write_bytes(b'{"a":1}\n{"a":"' + b"x" * (5 << 20) + b'"}\n{"a":2}\n')
    first, long, last = read_records([str(path)])
    assert (first.fields, last.fields, last.line) == ({"a": 1}, {"a": 2}, 3)
    assert long.error is not None
    assert (long.error.kind, long.error.message) == ("invalid_json", "the line has more than 1 MB")
    assert len(long.raw) == 1000


# The pool.


def test_a_pool_gives_the_texts_of_the_good_rows(tmp_path: Path) -> None:
    rows = [b'{"p":"a"}', b"no json", b'{"p":"\\ud800"}', b"", b'{"p":1}', b'{"g":"b"}']
    paths = [str(tmp_path / name) for name in ("one", "two")]
    for path in paths:
        Path(path).write_bytes(b"\n".join(rows))
    pool = Pool(paths, "p")
    assert list(pool) == ["a", "\ud800"] * 2
    assert [pool.line(i) for i in range(len(pool))] == [1, 3, 1, 3]
    bad = [(record.source, record.line, record.raw) for record in pool.bad_records()]
    assert bad == [(path, n, rows[n - 1]) for path in paths for n in (2, 5, 6)]
    mixed = Pool(paths, "p", "g")
    assert (list(mixed), mixed.human, mixed.bad) == (["a", "\ud800"] * 2 + ["b"] * 2, 4, 4)
