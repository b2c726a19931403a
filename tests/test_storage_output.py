"""Lines out: whole ones, under a name when they are finished, by one run at a time."""

import fcntl
import gzip
import os
from pathlib import Path

import pytest
from support.files import files_limited_to

from codesynth.errors import ConfigError, OutputError
from codesynth.storage import Files, JSONLStorage, Output


def write(path: Path, *lines: bytes) -> None:
    """Write a whole output of these lines."""
    output = Output(str(path))
    output.start()
    for line in lines:
        output.write(line)
    output.commit()
    output.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["out", "out.gz"])
def test_what_was_not_committed_stays_until_a_start_and_an_empty_file_goes(
    name: str, tmp_path: Path
) -> None:
    for text in (b"", b"a", b"b"):
        output = Output(str(tmp_path / name))
        assert output.has_leftover == (text == b"b")
        output.start()
        if text:
            output.write(text)
        output.close()
        assert names(tmp_path) == ({f"{name}.partial"} if text else set())
    partial = (tmp_path / f"{name}.partial").read_bytes()
    assert (gzip.decompress(partial) if name == "out.gz" else partial) == b"b\n"


def test_an_output_that_never_started_leaves_what_was_there(tmp_path: Path) -> None:
    Output(str(tmp_path / "out")).close()
    assert names(tmp_path) == set()
    (tmp_path / "out.partial").write_bytes(b"precious")
    Output(str(tmp_path / "out")).close()
    assert (tmp_path / "out.partial").read_bytes() == b"precious"


def test_a_lock_on_a_file_that_was_renamed_meanwhile_is_no_lock(tmp_path: Path) -> None:
    partial = tmp_path / "out.partial"
    old = os.open(partial, os.O_RDWR | os.O_CREAT)
    fcntl.flock(old, fcntl.LOCK_EX)
    partial.rename(tmp_path / "out")
    write(tmp_path / "out", b"new")
    os.close(old)
    assert (tmp_path / "out").read_bytes() == b"new\n"


def test_a_link_stays_a_link_and_a_rerun_keeps_the_mode_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real"
    (tmp_path / "out").symlink_to(real)
    write(tmp_path / "out", b"{}")
    real.chmod(0o664)
    write(tmp_path / "out", b"{}")
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "there") == {"real"}
    assert real.stat().st_mode & 0o777 == 0o664


def test_a_special_file_is_written_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    files = Files(str(tmp_path / "fifo"))
    files.start()
    files.write(b"a")
    assert os.read(reader, 10) == b"a\n"
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        files.write(b"b")
    files.commit()
    files.output.close()
    assert (names(tmp_path), files.journal_path) == ({"fifo"}, None)


@pytest.mark.parametrize(
    ("name", "why"), [(".", "Is a directory"), ("none/out", "its folder does not exist")]
)
def test_an_output_that_cannot_be_made_is_told(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"cannot open .*: {why}"):
        Output(f"{tmp_path}/{name}")
    assert names(tmp_path) == set()


def test_storage_reads_and_writes_rows(tmp_path: Path) -> None:
    rows = [{"a": "\u2028\ud800", "n": 2**70}, {}]
    storage = JSONLStorage(str(tmp_path / "rows"), str(tmp_path / "rows"))
    assert storage.write(rows) == str(tmp_path / "rows")
    assert storage.read("dict") == rows
    with pytest.raises(ConfigError, match='output_type "dataframe" is not known; known: dict'):
        storage.read("dataframe")
    (tmp_path / "rows").write_bytes(b"{}\n[]\n")
    with pytest.raises(ConfigError, match="rows:2: expected a JSON object, found an array"):
        storage.read()


def test_a_flush_that_fails_still_lets_go_of_the_lock(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    output.start()
    output.write(b"x" * 10_000)
    with files_limited_to(100), pytest.raises(OutputError):
        output.close()
    Output(str(tmp_path / "out")).close()


def test_the_rows_of_a_finished_file_are_counted(tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.jsonl.gz"):
        write(tmp_path / name, b"{}", b"{}", b"{}")
        output = Output(str(tmp_path / name))
        assert (output.exists(), output.count_rows()) == (True, 3)
        output.close()


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_what_names_no_file_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is not the name of a file"):
        Output(name)
    with pytest.raises(ConfigError, match="is not the name of a file"):
        Files("out.jsonl", name)
    assert not (tmp_path / "out.jsonl").exists()
