"""The loopback endpoint, where the row that says "stalled" is answered after all others.

python tests/benchmarks/stalling.py 10000       how many requests there will be
"""

import asyncio
import json
import signal
import sys

from measure import endpoint_options
from server import COUNTS, Connection, Worker

PAUSE = 0.05


class Stalling(Connection):
    """Holds the one answer back until all other requests have come."""

    expected = int(sys.argv[1])

    def chat(self, body: bytes) -> None:
        if b" stalled " in body and self.worker.mine[0] < self.expected - 1:
            self.timer = self.worker.loop.call_later(PAUSE, self.chat, body)
        else:
            self.timer = None
            super().chat(body)


async def serve(worker: Worker) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        worker.loop.add_signal_handler(number, stopping.set)
    listening = await worker.loop.create_server(lambda: Stalling(worker), "127.0.0.1")
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", flush=True)
    await stopping.wait()
    listening.close()


def main() -> None:
    counts = memoryview(bytearray(8 * len(COUNTS))).cast("q")
    worker = Worker(endpoint_options(), counts, 0)
    worker.loop.run_until_complete(serve(worker))
    print(json.dumps(worker.stats()), flush=True)


if __name__ == "__main__":
    main()
