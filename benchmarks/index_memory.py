"""Peak memory of ``rq index`` on SciFact, once and repeated eight times under other ids.

The peak is the operating system's, over the command and the processes it starts, after a first run
on ten passages has exported the model. What may grow with the corpus is what it keeps: vectors.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent))
from scifact import arguments, corpus_file

from rocketrank.data.corpus import CorpusReader


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.jsonl"
        write_corpus(corpus_file(options.scifact), small, 1, limit=10)
        print("ten passages:", index(small, Path(folder) / "small.index"), flush=True)
        for times in options.times:
            corpus = Path(folder) / f"{times}.jsonl"
            write_corpus(corpus_file(options.scifact), corpus, times)
            print(f"{times} x SciFact:", index(corpus, Path(folder) / f"{times}.index"), flush=True)


def write_corpus(source: Path, target: Path, times: int, limit: int | None = None) -> None:
    with target.open("wb") as file:
        for copy in range(times):
            for passage in islice(CorpusReader([source]), limit):
                record = {"_id": f"{copy}-{passage.id}", "title": passage.title}
                record["text"] = passage.text
                file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def index(corpus: Path, directory: Path) -> str:
    command = [sys.executable, "-m", "rocketrank", "index", str(corpus), "--index", str(directory)]
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    vectors = sum(file.stat().st_size for file in directory.glob("segments/*/vectors/*.npy"))
    return (
        f"peak {usage.ru_maxrss / 1024:.0f} MiB, vectors {vectors / 2**20:.1f} MiB, "
        f"{time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
