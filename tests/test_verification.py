"""What verify says about honest and dishonest code, and how rows stream through it."""

import json
import os
import re
import threading
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.quality.sandbox import SandboxUnavailable
from codesynth.quality.sandboxed.values import Decoder, Encoder
from codesynth.quality.verification import Verification, Verifier

HUMAN_EVAL = Path(
    os.environ.get("CODESYNTH_HUMANEVAL")
    or Path(__file__).parents[2] / "shared" / "data" / "HumanEval.jsonl"
)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    """Verify rows of ``code``, ``test``, ``instruction``; skip where there is no sandbox."""
    try:
        with Verifier(test_key="test", code_key="code", jobs=2, timeout=20) as verifier:
            yield verifier
    except SandboxUnavailable as exc:
        pytest.skip(str(exc))


def verify(verifier: Verifier, code: str, test: object = None, **columns: str) -> Verification:
    return next(verifier.verify([{"code": code, "test": test, **columns}]))


def programs(name: str) -> dict[str, dict[str, str]]:
    """Read rows by name: the code, then other columns under ``--- column``."""
    text = (Path(__file__).parent / "honest" / name).read_text(encoding="utf-8")
    titles = re.split(r"(?m)^### (.+)\n", text)
    rows = {}
    for title, body in zip(titles[1::2], titles[2::2], strict=True):
        columns = re.split(r"(?m)^--- (\w+)\n", f"--- code\n{body}")
        rows[title] = {k: v.rstrip("\n") for k, v in zip(columns[1::2], columns[2::2], strict=True)}
    return rows


HONEST = programs("programs.txt")
STATUSES = programs("statuses.txt")


@pytest.mark.parametrize("name", HONEST)
def test_right_code_passes_whatever_its_tests_do_with(verifier: Verifier, name: str) -> None:
    verdict = verify(verifier, **HONEST[name])
    assert (verdict.status, verdict.message) == ("passed", "")
    assert verdict.tests_run == verdict.tests_passed > 0


STUB = 'def double(x):\n    """Double.\n\n    >>> double(2)\n    4\n    """\n'


@pytest.mark.parametrize("name", STATUSES)
def test_status_of(verifier: Verifier, name: str) -> None:
    row = STATUSES[name]
    verdict = verify(verifier, **row)
    assert verdict.status == name.partition(": ")[0], verdict


def test_code_that_cannot_be_text_of_a_program_is_a_syntax_error(verifier: Verifier) -> None:
    rows = [{"code": "x = '\0'"}, {"code": "x = '\ud800'"}, {"code": "(" * 5000}]
    assert {verdict.status for verdict in verifier.verify(rows)} == {"syntax_error"}


def test_a_list_of_asserts_is_a_test(verifier: Verifier) -> None:
    verdict = verify(
        verifier, "def same(x):\n    return x", ["assert same(1) == 1", "assert same(2)"]
    )
    assert (verdict.status, verdict.tests_run) == ("passed", 2)


def test_the_message_quotes_the_assert_that_failed(verifier: Verifier) -> None:
    test = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 5\n"
    verdict = verify(verifier, "def inc(x):\n    return x + 1", test)
    assert (verdict.tests_run, verdict.tests_passed) == (2, 1)
    assert verdict.message == "assert candidate(2) == 5: AssertionError"


def test_the_message_tells_what_a_doctest_got(verifier: Verifier) -> None:
    verdict = verify(verifier, "def double(x):\n    return 3 * x", instruction=STUB)
    assert verdict.message == ">>> double(2) expected 4, got 6"


def test_the_message_of_a_unittest_is_not_the_end_of_a_long_comparison(
    verifier: Verifier,
) -> None:
    test = """\
import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(up(), list(range(999)))
"""
    verdict = verify(verifier, "def up():\n    return list(range(1000))", test)
    assert verdict.message.startswith(
        "self.assertEqual(up(), list(range(999))): AssertionError: Li"
    )


def test_a_message_shows_what_a_terminal_would_obey(verifier: Verifier) -> None:
    code = r"raise ValueError('\x1b[2J\u202epassed\x9b31m\u2028\ud800')"
    message = verify(verifier, code).message
    assert message == r"on import: ValueError: \x1b[2J\u202epassed\x9b31m \ud800"


def test_a_column_without_text_is_an_error_that_names_it(verifier: Verifier) -> None:
    verdicts = list(verifier.verify([{}, {"code": None}, {"code": ["x"]}]))
    assert {verdict.status for verdict in verdicts} == {"error"}
    assert '"code"' in verdicts[0].message


def test_as_dict_has_the_fields_of_the_column() -> None:
    assert Verification("passed", 2, 2, 0.1).as_dict() == {
        "status": "passed",
        "tests_run": 2,
        "tests_passed": 2,
        "seconds": 0.1,
        "message": "",
    }


def test_rows_come_back_in_order_though_the_first_is_slow(verifier: Verifier) -> None:
    slow = {"code": "import time\ntime.sleep(0.3)"}
    quick = [{"code": f"x = {i}", "test": "assert x == 3"} for i in range(9)]
    statuses = [verdict.status for verdict in verifier.verify([slow, *quick])]
    assert statuses == ["no_tests", *(["failed"] * 3), "passed", *(["failed"] * 5)]


def test_a_slow_source_holds_back_no_finished_row(verifier: Verifier) -> None:
    release = threading.Event()

    def rows() -> Iterator[dict[str, str]]:
        yield {"code": "x = 1"}
        release.wait(20)
        yield {"code": "x = 2"}

    verdicts = verifier.verify(rows())
    assert next(verdicts).status == "no_tests"
    assert not release.is_set()
    release.set()
    assert [verdict.status for verdict in verdicts] == ["no_tests"]


def test_a_slow_reader_stops_the_pulling(verifier: Verifier) -> None:
    pulled = 0

    def rows() -> Iterator[dict[str, str]]:
        nonlocal pulled
        while True:
            pulled += 1
            yield {"code": "x = 1"}

    verdicts = verifier.verify(rows())
    next(verdicts)
    time.sleep(0.3)
    assert pulled <= 2 * 32 + 3
    verdicts.close()  # type: ignore[attr-defined]


def test_an_error_of_the_source_comes_after_the_rows_before_it(verifier: Verifier) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"code": "x = 1"}
        raise OSError("unreadable")

    verdicts = verifier.verify(rows())
    assert next(verdicts).status == "no_tests"
    with pytest.raises(OSError, match="unreadable"):
        next(verdicts)


def test_leaving_ends_what_runs_at_once() -> None:
    started = time.monotonic()
    try:
        with Verifier(test_key=None, code_key="code", timeout=60, jobs=1) as verifier:
            threading.Timer(0.2, lambda: verifier.__exit__(None, None, None)).start()
            list(verifier.verify([{"code": "while True:\n    pass"}]))
    except SandboxUnavailable as exc:
        pytest.skip(str(exc))
    assert time.monotonic() - started < 10


def test_unsafe_gives_the_same_verdicts_and_the_same_limits(tmp_path: Path) -> None:
    rows = [
        {"code": "def f():\n    return 1", "test": "assert f() == 1"},
        {"code": "def f():\n    return 2", "test": "assert f() == 1"},
        {"code": "while True:\n    pass"},
        {"code": "import os\nos._exit(0)"},
        {"code": "x = bytearray(1 << 30)"},
        {"code": "open('here', 'w').write(__import__('os').getcwd())"},
    ]
    with Verifier(test_key="test", code_key="code", timeout=1, jobs=1, unsafe=True) as verifier:
        verdicts = list(verifier.verify(rows))
    statuses = [verdict.status for verdict in verdicts]
    assert statuses == ["passed", "failed", "timeout", "error", "error", "no_tests"]


def human_eval() -> list[dict[str, Any]]:
    if not HUMAN_EVAL.exists():
        pytest.skip("HumanEval.jsonl is not there; name it in CODESYNTH_HUMANEVAL")
    return [json.loads(line) for line in HUMAN_EVAL.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("form", ["whole", "body"])
def test_all_of_human_eval_passes(verifier: Verifier, form: str) -> None:
    rows = human_eval()
    for row in rows:
        row["code"] = (row["prompt"] if form == "whole" else "") + row["canonical_solution"]
    wrong = [
        (row["task_id"], verdict)
        for row, verdict in zip(rows, verifier.verify(rows), strict=True)
        if verdict.status != "passed"
    ]
    assert wrong == []


@pytest.mark.parametrize("body", ["pass", "return 123456789"])
def test_none_of_human_eval_passes_with_a_wrong_body(verifier: Verifier, body: str) -> None:
    rows = human_eval()
    for row in rows:
        row["code"] = f"{row['prompt']}    {body}\n"
    assert Counter(one.status == "passed" for one in verifier.verify(rows)) == {False: len(rows)}


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.datetimes(timezones=st.none() | st.just(timezone(timedelta(hours=2))))
    | st.dates()
    | st.timedeltas()
    | st.uuids()
)
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text())
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
        | st.lists(inner).map(deque)
        | st.dictionaries(KEYS, inner).map(OrderedDict)
        | st.dictionaries(KEYS, inner).map(lambda found: defaultdict(None, found))
    ),
    max_leaves=12,
)


def refuse(*args: object) -> Any:
    raise AssertionError(args)


@given(PLAIN)
def test_a_plain_value_survives_the_wire(value: object) -> None:
    wire = json.dumps(Encoder(refuse).encode(value))
    back = Decoder(refuse).decode(json.loads(wire))
    assert back == value
    assert type(back) is type(value)


def test_a_value_keeps_its_type_on_the_wire() -> None:
    for value in (True, 1, 1.0, -0.0, Decimal("1.0"), Fraction(1), date(2020, 1, 1), datetime.max):
        back = Decoder(refuse).decode(json.loads(json.dumps(Encoder(refuse).encode(value))))
        assert repr(back) == repr(value)


def test_arrays_of_numpy_survive_the_wire_and_objects_in_them_do_not() -> None:
    numpy = pytest.importorskip("numpy")

    def there_and_back(value: object) -> Any:
        encoded = Encoder(lambda value, encoder: ["mine"]).encode(value)
        return Decoder(refuse).decode(json.loads(json.dumps(encoded)))

    for array in (numpy.eye(2), numpy.array([]), numpy.array(3), numpy.array(["a", "bc"])):
        back = there_and_back(array)
        assert (back.shape, back.dtype) == (array.shape, array.dtype)
        assert (back == array).all()
    for scalar in (numpy.int64(-3), numpy.float32(0.5), numpy.bool_(True)):
        assert there_and_back(scalar) == scalar
        assert type(there_and_back(scalar)) is type(scalar)
    with pytest.raises(AssertionError):
        there_and_back(numpy.array([object()]))
    with pytest.raises(ValueError, match="plain"):
        Decoder(refuse).decode(["numpy", "|O", [1], "12345678"])
