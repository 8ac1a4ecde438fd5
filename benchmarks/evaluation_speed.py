"""How long a large run takes to read and judge, and in how much memory.

Makes a TREC run of ``--queries`` x ``--hits`` lines (always the same, in a temporary folder) and
evaluates it in a child process with the preset msmarco, in turns with the obvious way: a loop over
the lines into dictionaries, and pytrec_eval on all of them. Times are those of the evaluation with
its imports, without the start of Python; the peak is VmHWM of the child.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
MEASURES = ("MRR@10", "R@50", "R@1000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=6980)
    parser.add_argument("--hits", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ties", action="store_true", help="scores with two decimals")
    parser.add_argument("--child", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(WAYS[options.child], *options.files)))
        return
    with tempfile.TemporaryDirectory() as folder:
        run, qrels = Path(folder) / "run.trec", Path(folder) / "qrels.tsv"
        write_files(run, qrels, options.queries, options.hits, options.ties)
        print(f"{options.queries} queries x {options.hits} hits, {run.stat().st_size >> 20} MiB")
        compare(run, qrels, options.rounds)


def write_files(run: Path, qrels: Path, queries: int, hits: int, ties: bool) -> None:
    generator = random.Random(0)
    with run.open("w") as lines, qrels.open("w") as judgements:
        for query in range(1, queries + 1):
            passages = generator.sample(range(8_841_823), hits)
            score = 20 + generator.random()
            for rank, passage in enumerate(passages, 1):
                score -= generator.random() * 0.02
                shown = f"{score:.2f}" if ties else repr(score)
                lines.write(f"{query} Q0 {passage} {rank} {shown} synthetic\n")
            judgements.write(f"{query}\t0\t{generator.choice(passages)}\t1\n")


def compare(run: Path, qrels: Path, rounds: int) -> None:
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    means: list[dict[str, float]] = []
    for number in range(1, rounds + 1):
        for way in WAYS:
            command = [sys.executable, __file__, "--child", way, "--files", str(run), str(qrels)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            result = json.loads(done.stdout)
            seconds[way].append(result["seconds"])
            means.append(result["means"])
            print(
                f"round {number}, {way}: {result['seconds']:.2f} s, peak {result['peak']} MiB",
                flush=True,
            )
    if any(abs(each[name] - means[0][name]) > 1e-9 for each in means for name in MEASURES):
        sys.exit(f"the ways disagree: {means}")
    for way, times in seconds.items():
        print(
            f"{way}: median {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"
        )
    ratios = [ours / plain for ours, plain in zip(*seconds.values(), strict=True)]
    print(
        f"rocketrank / plain: median {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def measured(way: Callable[[Path, Path], dict[str, float]], run: Path, qrels: Path) -> object:
    started = time.perf_counter()
    means = way(run, qrels)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "means": means, "peak": peak_mebibytes()}


def rocketrank_way(run: Path, qrels: Path) -> dict[str, float]:
    sys.path.insert(0, str(SOURCE))
    from rocketrank.eval.judging import JudgeOptions, judge_run, load_qrels

    options = JudgeOptions(measures=MEASURES)
    result = judge_run(run, load_qrels(qrels), options, name="synthetic")
    return {name: result.mean(name) for name in MEASURES}


def plain_way(run: Path, qrels: Path) -> dict[str, float]:
    import pytrec_eval

    judgements: dict[str, dict[str, int]] = {}
    for line in qrels.open():
        query, _, passage, grade = line.split()
        judgements.setdefault(query, {})[passage] = int(grade)
    scores: dict[str, dict[str, float]] = {}
    for line in run.open():
        query, _, passage, _, score, _ = line.split()
        scores.setdefault(query, {})[passage] = float(score)
    asked = {"recip_rank", "recall_50", "recall_1000"}
    values = pytrec_eval.RelevanceEvaluator(judgements, asked).evaluate(scores).values()
    ranks = [each["recip_rank"] if each["recip_rank"] > 0.099 else 0.0 for each in values]
    recall = {k: statistics.fmean(each[f"recall_{k}"] for each in values) for k in (50, 1000)}
    return {"MRR@10": statistics.fmean(ranks), "R@50": recall[50], "R@1000": recall[1000]}


def peak_mebibytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


WAYS = {"rocketrank": rocketrank_way, "plain": plain_way}


if __name__ == "__main__":
    main()
