"""The same work by RocketRank and by its peers, in turn, on the same machine.

    python benchmarks/against_peers.py encode
    python benchmarks/against_peers.py query
    python benchmarks/against_peers.py rerank
    python benchmarks/against_peers.py search
    python benchmarks/against_peers.py train
    python benchmarks/against_peers.py roofline
    python benchmarks/against_peers.py start
    python benchmarks/against_peers.py table

Every side is a process of its own with the same weights, texts, truncation and threads (all cores),
which works only when it is its turn: A B C A B C …, after a warm-up. ``--data DIR`` has the folders
scifact and msmarco. Peers get the batch size that is their best of several. Each command leaves a
file in benchmarks/results/peers, of which ``table`` makes docs/performance.md. ``make bench`` runs
them all.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

sys.path.insert(0, str(Path(__file__).parent))
from peers.models import in_integers, minilm_folder, write_cross_encoder
from peers.roofline import achieved
from peers.sides import DEFAULT, OURS, PEERS, Side, choose_batch_size, latencies, rates, take_turns
from peers.texts import SciFact, read_msmarco, read_scifact, spaced
from peers.worker import seconds
from peers_table import write_tables
from scifact import data_folder

from rocketrank.eval import evaluate, mean
from rocketrank.inference import cpu_flags, usable_cores
from rocketrank.model_settings import folder_settings

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "peers"
PAGE = HERE.parent / "docs" / "performance.md"
K, DEPTH = 10, 100
MEASURED = 300
"""Texts by which a side brings its model into integers."""
INDEX = "scifact.index"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.command == "table":
        write_tables(RESULTS, PAGE)
        print(f"{PAGE} has the tables")
        return
    options.work.mkdir(parents=True, exist_ok=True)
    result = {
        "encode": encode,
        "query": query,
        "rerank": rerank,
        "search": search,
        "train": train,
        "roofline": roofline,
        "start": start,
    }[options.command](options)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{options.command}.json"
    machine = {
        "processor": processor(),
        "cores": usable_cores(),
        "python": platform.python_version(),
    }
    path.write_bytes(
        orjson.dumps(
            {"machine": machine, **result}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )
    )
    print(f"{path} has the figures")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("encode", "query", "rerank", "search", "train", "roofline", "start"):
        command = commands.add_parser(name)
        command.add_argument(
            "--data",
            type=Path,
            metavar="DIR",
            default=data_folder(),
            help="where the folders scifact and msmarco are (default: %(default)s)",
        )
        command.add_argument(
            "--peers",
            type=Path,
            default=HERE.parent / ".venv-peers" / "bin" / "python",
            help="the Python of the peers' environment (default: that of make bench)",
        )
        command.add_argument("--rounds", type=int, default=5)
        command.add_argument(
            "--sides", nargs="+", default=[*OURS, *PEERS], metavar="SIDE", help="some of them only"
        )
        command.add_argument(
            "--work", type=Path, default=Path(tempfile.gettempdir()) / "rocketrank-peers"
        )
        if name == "encode":
            command.add_argument(
                "--quality",
                nargs="*",
                metavar="SIDE",
                help="nDCG@10 of SciFact too, for these sides or for all (1 to 4 minutes each)",
            )
        if name in ("rerank", "search", "roofline"):
            command.add_argument(
                "--reranker",
                type=Path,
                metavar="DIR",
                help="a trained cross-encoder of BERT's shape; without it one of random numbers",
            )
    commands.add_parser("table")
    return parser


def encode(options: argparse.Namespace) -> dict[str, Any]:
    """Documents per second, and nDCG@10 of SciFact with the vectors of each side."""
    science = read_scifact(options.data / "scifact")
    judged = options.sides if options.quality == [] else options.quality or []
    works = {
        "scifact": (256, science.texts, 256),
        "msmarco": (128, read_msmarco(options.data / "msmarco"), 512),
    }
    results: dict[str, Any] = {}
    for name, (length, all_texts, count) in works.items():
        texts = spaced(all_texts, count)
        sides = [Side(each, options.peers) for each in options.sides]
        sample = measured(name, all_texts, options.work)
        opened = {"folder": str(minilm_folder()), "length": length, "texts": sample}
        first = {
            each.name: each.ask("open_encoder", **opened, backend=each.backend) for each in sides
        }
        files = {"texts": write_texts(options.work / f"{name}.json", texts)}
        warm = {"texts": write_texts(options.work / f"{name}-warm.json", spaced(texts, 64))}
        for side in sides:
            choose_batch_size(side, "encode", warm)
        rounds = take_turns(sides, "encode", files, options.rounds)
        results[name] = {
            side.name: {
                **rates(rounds[side.name]),
                "batch_size": side.batch_size,
                "versions": first[side.name]["versions"],
            }
            for side in sides
        }
        vectors = {side.name: saved(side, "encode", files, options.work) for side in sides}
        exact = vectors.get(DEFAULT, next(iter(vectors.values())))
        for side in sides:
            cosines = (vectors[side.name] * exact).sum(axis=1)
            results[name][side.name]["cosine"] = float(cosines.min())
        for side in sides:
            if name == "scifact" and side.name in judged:
                results[name][side.name]["nDCG@10"] = retrieval_quality(side, science, options.work)
        for side in sides:
            side.end()
    return {"unit": "documents/s", "works": results}


def query(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of one query to its vector."""
    science = read_scifact(options.data / "scifact")
    texts = spaced(list(science.queries.values()), 200)
    sample = measured("scifact", science.texts, options.work)
    opened = {"folder": str(minilm_folder()), "length": 256, "texts": sample}
    sides = [Side(each, options.peers) for each in options.sides]
    for side in sides:
        side.ask("open_encoder", **opened, backend=side.backend)
    files = {"texts": write_texts(options.work / "queries.json", texts)}
    for side in sides:
        side.ask("encode_queries", **files)
    rounds = take_turns(sides, "encode_queries", files, options.rounds)
    for side in sides:
        side.end()
    return {"unit": "ms", "works": {"one query": latencies(rounds)}}


def rerank(options: argparse.Namespace) -> dict[str, Any]:
    """Pairs per second for lists of 100 passages, and how well the scores agree with fp32."""
    science = read_scifact(options.data / "scifact")
    model = options.reranker or write_cross_encoder(options.work / "cross-encoder")
    opened = of_reranker(model, measured("scifact", science.texts, options.work))
    asked = spaced(list(science.queries.values()), 4)
    lists = [
        [(text, each) for each in science.texts[n :: len(science.texts) // DEPTH][:DEPTH]]
        for n, text in enumerate(asked)
    ]
    sides = [Side(each, options.peers) for each in options.sides]
    for side in sides:
        side.ask("open_reranker", **opened, backend=side.backend)
    files = {"pairs": write_texts(options.work / "pairs.json", lists)}
    warm = {"pairs": write_texts(options.work / "pairs-warm.json", [lists[0][:64]])}
    for side in sides:
        choose_batch_size(side, "score", warm)
    rounds = take_turns(sides, "score", files, options.rounds)
    results = {}
    scores = {
        side.name: saved(side, "score", files, options.work).reshape(len(lists), -1)
        for side in sides
    }
    for side in sides:
        side.end()
    exact = scores.get(DEFAULT, next(iter(scores.values())))
    for side in sides:
        results[side.name] = {
            **rates(rounds[side.name]),
            "batch_size": side.batch_size,
            "correlation": min(
                float(np.corrcoef(own, reference)[0, 1])
                for own, reference in zip(scores[side.name], exact, strict=True)
            ),
        }
    return {"unit": "pairs/s", "works": {"lists of 100": results}}


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a query through one stage and through two, over SciFact.

    All search the same vectors, which our index holds, and encode queries themselves; but ours in
    integers has an index of its own.
    """
    science = read_scifact(options.data / "scifact")
    model = options.reranker or write_cross_encoder(options.work / "cross-encoder")
    texts = measured("scifact", science.texts, options.work)
    queries = list(science.queries.values())
    corpus, vectors = write_corpus(science, options.work)
    encoder = {"folder": str(minilm_folder()), "length": 256, "texts": texts}
    second = of_reranker(model, texts)
    pairs = [[(queries[0], text) for text in spaced(science.texts, 64)]]
    warm = {"pairs": write_texts(options.work / "pairs-warm.json", pairs)}
    sides = [Side(each, options.peers) for each in options.sides]
    for side in sides:
        if side.is_ours:
            index = options.work / INDEX
            if side.backend == "int8":
                index = write_index(science, in_integers(minilm_folder(), Path(texts)), index)
            opened = {"index": str(index), "reranker": str(model), "texts": texts}
            side.ask("open_search", **opened, backend=side.backend, depth=DEPTH)
        else:
            side.ask("open_encoder", **encoder, backend=side.backend)
            side.ask("open_reranker", **second, backend=side.backend)
            choose_batch_size(side, "score", warm)
            side.ask("open_search", vectors=vectors, corpus=corpus, depth=DEPTH)
    works = {}
    for stages, name, count in ((1, "one stage", 100), (2, "two stages", 3)):
        file = write_texts(options.work / f"search-{stages}.json", spaced(queries, count))
        asked = {"texts": file, "stages": stages, "k": K}
        for side in sides:
            side.ask("search", **asked)
        rounds = take_turns(sides, "search", asked, options.rounds)
        works[name] = latencies(rounds)
        exact = rounds.get(DEFAULT, next(iter(rounds.values())))[-1]["found"]
        for side in sides:
            own = rounds[side.name][-1]["found"]
            works[name][side.name]["overlap"] = statistics.mean(
                len(set(a) & set(b)) / K for a, b in zip(own, exact, strict=True)
            )
    for side in sides:
        side.end()
    return {"unit": "ms", "works": works}


def write_corpus(science: SciFact, work: Path) -> tuple[str, str]:
    """Our index of SciFact, and beside it two files for others: ids with texts, and its vectors."""
    index, vectors = write_index(science, "minilm", work / INDEX), work / "vectors.npy"
    shards = sorted((index / "segments" / "000001" / "vectors").iterdir())
    np.save(vectors, np.concatenate([np.load(shard) for shard in shards]))
    return write_texts(work / "corpus.json", [science.ids, science.texts]), str(vectors)


def write_index(science: SciFact, model: str | Path, index: Path) -> Path:
    """SciFact encoded by ``model``, once; its place, which has the name of a folder in it."""
    if isinstance(model, Path):
        index = index.with_name(f"{model.name}-{index.name}")
    if not index.exists():
        ours = [sys.executable, "-m", "rocketrank"]
        subprocess.run(
            [*ours, "index", science.file, "--model", model, "--index", index], check=True
        )
    return index


def measured(name: str, texts: Sequence[str], work: Path) -> str:
    """The file with the texts of a collection by which models are brought into integers."""
    return write_texts(work / f"{name}-measured.json", spaced(texts[1:], MEASURED))


def of_reranker(model: Path, texts: str) -> dict[str, Any]:
    """What opens a re-ranker; ``texts`` is the file that :func:`measured` gives."""
    return {"folder": str(model), "length": folder_settings(model).pair_length, "texts": texts}


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Queries per second of steps of 4 lists of 8, and the first loss without dropout."""
    scripts = ("ours_training.py", "torch_training.py")
    names = ("ours fp32", "torch fp32", "torch bf16")
    sides = [Side(each, options.peers, scripts) for each in names]
    data = str(options.work / "training.npz")
    for side in sides:
        if side.is_ours:
            side.ask("open", msmarco=str(options.data / "msmarco"), steps=3, save=data)
        else:
            side.ask("open", folder=str(minilm_folder()), data=data, backend=side.backend)
    losses = {side.name: side.ask("loss")["loss"] for side in sides}
    for side in sides:
        side.ask("train")
    rounds = take_turns(sides, "train", {}, options.rounds)
    for side in sides:
        side.end()
    works = {name: {**rates(answers), "loss": losses[name]} for name, answers in rounds.items()}
    return {"unit": "queries/s", "works": {"steps of 4 lists of 8": works}}


def roofline(options: argparse.Namespace) -> dict[str, Any]:
    """What share of the cores' speed encoding and re-ranking reach."""
    science = read_scifact(options.data / "scifact")
    model = options.reranker or write_cross_encoder(options.work / "cross-encoder")
    question = next(iter(science.queries.values()))
    texts = spaced(science.texts, 256)
    works = achieved(texts, [(question, text) for text in texts], str(model), options.rounds)
    return {"unit": "GFLOP/s", "works": works}


def start(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from a cold process to the first result, and to a page of help."""
    science = read_scifact(options.data / "scifact")
    corpus, vectors = write_corpus(science, options.work)
    index = str(options.work / INDEX)
    text = next(iter(science.queries.values()))
    ours = [sys.executable, "-m", "rocketrank"]
    theirs = [str(options.peers), str(HERE / "peers" / "first_result.py"), str(minilm_folder())]
    commands = {
        "first result": {
            "ours": [*ours, "search", text, "--index", index],
            "sentence-transformers": [*theirs, vectors, corpus, text],
        },
        "help": {
            "ours": [*ours, "--help"],
            "sentence-transformers": [str(options.peers), "-c", "import sentence_transformers"],
        },
    }
    works: dict[str, Any] = {}
    for name, pair in commands.items():
        taken: dict[str, list[float]] = {side: [] for side in pair}
        for _ in range(options.rounds + 1):
            for side, command in pair.items():
                taken[side].append(
                    seconds(
                        lambda c=command: subprocess.run(c, check=True, stdout=subprocess.DEVNULL)
                    )
                )
        works[name] = {side: {"seconds": values[1:]} for side, values in taken.items()}
    return {"unit": "s", "works": works}


def saved(side: Side, do: str, options: Mapping[str, Any], work: Path) -> Any:
    """What ``side`` gives: vectors or scores."""
    path = work / f"{do}-{side.name.replace(' ', '-')}.npy"
    side.ask(do, **options, batch_size=side.batch_size, save=str(path))
    return np.load(path)


def retrieval_quality(side: Side, science: SciFact, work: Path) -> float:
    """nDCG@10 on SciFact's test judgements, passages and queries encoded by ``side``."""
    parts = [
        saved(side, "encode", {"texts": write_texts(work / "all.json", texts)}, work)
        for texts in (science.texts, list(science.queries.values()))
    ]
    scores = parts[1] @ parts[0].T
    run = {
        query_id: {
            science.ids[row]: float(row_scores[row]) for row in np.argsort(-row_scores)[:100]
        }
        for query_id, row_scores in zip(science.queries, scores, strict=True)
    }
    return mean(evaluate(run, science.qrels, ["nDCG@10"])["nDCG@10"])


def write_texts(path: Path, texts: object) -> str:
    path.write_text(json.dumps(texts), encoding="utf-8")
    return str(path)


def processor() -> str:
    """What kind of processor this is, by what it can do."""
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    return f"{platform.machine()}, " + ", ".join(flag for flag in known if flag in cpu_flags())


if __name__ == "__main__":
    main()
