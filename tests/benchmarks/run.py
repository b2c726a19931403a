"""Measure codesynth against its goals, beside others' clients, on this machine; print tables.

    python tests/benchmarks/run.py                  all cases: about an hour
    python tests/benchmarks/run.py --quick          the same, smaller: about twenty minutes
    python tests/benchmarks/run.py cpu startup      some cases

Needs the package. The peers in the ``cpu`` case are left out where they are not installed:
``pip install openai requests``. Everything is on the loopback; figures are medians of
several runs which take turns, ± half the distance between the fastest and the slowest. A machine
that is busy with other things shows in wall time first: ratios in one table stand longer.
TMPDIR chooses the disk.
"""

import argparse
import importlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import HERE

CASES = ("cpu", "latency", "startup", "rerun", "rates", "auto", "memory")
OTHERS = ("transports", "journal", "crash", "novelty", "verify")


def parse() -> argparse.Namespace:
    others = [name for name in OTHERS if (HERE / f"{name}.py").exists()]
    parser = argparse.ArgumentParser(
        description="Print tables of what codesynth costs.",
        epilog=f"By name only: {', '.join(others)}.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="smaller, fewer, shorter")
    options = parser.parse_args()
    options.names = options.names or list(CASES)
    if unknown := set(options.names).difference(CASES, others):
        parser.error(f"no case is named {', '.join(sorted(unknown))}")
    return options


def machine() -> str:
    load = os.getloadavg()[0]
    version = platform.python_version()
    return f"Python {version}, {os.cpu_count()} cores, load {load:.1f}, {platform.platform()}\n"


def main() -> None:
    options = parse()
    print(machine(), flush=True)
    for name in options.names:
        if name in OTHERS:
            subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=True)
            continue
        case = importlib.import_module(f"cases.{name}")
        with tempfile.TemporaryDirectory() as folder:
            for table in case.tables(Path(folder), options.quick):
                print(table, flush=True)


if __name__ == "__main__":
    main()
