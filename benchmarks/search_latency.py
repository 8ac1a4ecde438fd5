"""How long a search takes: ``rq search`` from a cold process, and one query in a warm engine."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from scifact import arguments, spread

from rocketrank import SearchEngine
from rocketrank.data.queries import read_queries


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--index", type=Path, required=True, metavar="DIR")
    parser.add_argument("--processes", type=int, default=10, help="cold processes")
    options = parser.parse_args()
    queries = [query.text for query in read_queries(options.scifact / "queries.jsonl")]
    command = [sys.executable, "-m", "rocketrank"]
    search = [*command, "search", queries[0], "--index", str(options.index)]
    print("rq --help from a cold process:", cold([*command, "--help"], options.processes))
    print("rq search from a cold process:", cold(search, options.processes))
    with SearchEngine.open(options.index) as engine:
        for query in queries[:20]:
            engine.search(query)
        milliseconds = []
        for query in queries:
            started = time.perf_counter()
            engine.search(query)
            milliseconds.append((time.perf_counter() - started) * 1000)
        middle, late = np.percentile(milliseconds, [50, 99])
        print(f"one warm query: p50 {middle:.1f} ms, p99 {late:.1f} ms, {len(queries)} queries")
        started = time.perf_counter()
        engine.search_many(queries)
        rate = len(queries) / (time.perf_counter() - started)
        print(f"search_many: {rate:.0f} queries/s")


def cold(command: list[str], processes: int) -> str:
    seconds = []
    for _ in range(processes):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return spread(seconds, "s")


if __name__ == "__main__":
    main()
