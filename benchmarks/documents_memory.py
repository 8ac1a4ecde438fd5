"""Peak memory of ``rq index`` on a folder of text of several sizes, beyond what it maps.

The texts are SciFact's abstracts again and again, a thousand to a file. The peak is the operating
system's, over the command and the processes it starts; what the vectors' files take is subtracted,
as they are mapped and given back where room is needed. A tiny model keeps the hours down: chunks,
shards, passages and structure are what may grow with the text, not the model.
"""

import os
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
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    vectors = sum(file.stat().st_size for file in folder.glob("index/segments/*/vectors/*.npy"))
    peak = usage.ru_maxrss / 1024
    return (
        f"peak {peak:.0f} MiB, vectors {vectors / 2**20:.0f} MiB, beyond them "
        f"{peak - vectors / 2**20:.0f} MiB, {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
