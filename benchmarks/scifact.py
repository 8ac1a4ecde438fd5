"""What the benchmarks share: the option that names the data, and how figures are printed."""

import argparse
import os
import statistics
from collections.abc import Sequence
from pathlib import Path


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--scifact``, the folder with corpus.jsonl.gz, queries.jsonl and qrels/."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--scifact", type=Path, required=True, metavar="DIR")
    return parser


def data_folder() -> Path:
    """``$ROCKETRANK_DATA``, or ``shared/data`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("ROCKETRANK_DATA", beside))


def corpus_file(folder: Path) -> Path:
    """The corpus, compressed or not."""
    files = [folder / "corpus.jsonl.gz", folder / "corpus.jsonl"]
    return next((file for file in files if file.is_file()), files[0])


def spread(values: Sequence[float], unit: str) -> str:
    """Median and range, such as ``61.2 (58.0 to 63.1) documents/s``."""
    median = statistics.median(values)
    return f"{median:.4g} ({min(values):.4g} to {max(values):.4g}) {unit}"
