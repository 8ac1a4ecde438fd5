"""Peak memory of ``rq index`` on a folder of text of several sizes, beyond the vectors it maps.

The texts are SciFact's abstracts again and again, a thousand to a file. Once a second the process
is asked what it holds in memory, page by page of every mapping (/proc/PID/smaps: Linux only); all
counts but the files of vectors, which the system takes back where room is needed. A tiny model
keeps the hours down: chunks, shards, passages and structure are what may grow with the text, not
the model.
"""

import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scifact import arguments, corpus_file

from rocketrank.data.corpus import CorpusReader


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", required=True, help="a tiny dual encoder")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[30, 120])
    options = parser.parse_args()
    texts = [passage.full_text for passage in CorpusReader([corpus_file(options.scifact)])]
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            write_texts(Path(folder) / "texts", texts, megabytes * 1_000_000)
            print(f"{megabytes} MB of text: {index(Path(folder), options.model)}", flush=True)


def write_texts(folder: Path, texts: list[str], size: int) -> None:
    folder.mkdir()
    written, number, endless = 0, 0, cycle(texts)
    while written < size:
        content = "\n\n".join(islice(endless, 1000)).encode()[: size - written]
        (folder / f"{number}.txt").write_bytes(content.decode(errors="ignore").encode())
        written += len(content)
        number += 1


def index(folder: Path, model: str) -> str:
    command = [sys.executable, "-m", "rocketrank", "index", str(folder / "texts")]
    command += ["--index", str(folder / "index"), "--model", model, "--chunk", "100"]
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    peak = 0
    while child.poll() is None:
        peak = max(peak, held_beside_vectors(child.pid))
        time.sleep(1)
    if child.returncode:
        sys.exit(f"{' '.join(command)} failed")
    vectors = sum(file.stat().st_size for file in folder.glob("index/segments/*/vectors/*.npy"))
    return (
        f"peak {peak / 2**20:.0f} MiB beside the vectors, which are {vectors / 2**20:.0f} MiB, "
        f"{time.perf_counter() - started:.0f} s"
    )


def held_beside_vectors(process: int) -> int:
    """Bytes of memory that a process holds in all mappings but those of files of vectors."""
    try:
        lines = Path(f"/proc/{process}/smaps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    held, counts = 0, True
    for line in lines:
        word, *rest = line.split()
        if not word.endswith(":"):  # 7f12-7f34 r--s 0000 fe:00 12345 /the/file
            counts = not (rest[-1].endswith(".npy") and "/vectors/" in rest[-1])
        elif word == "Rss:" and counts:
            held += int(rest[0]) * 1024
    return held


if __name__ == "__main__":
    main()
