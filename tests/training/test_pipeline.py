"""A pipeline from a small collection to a trained pair: what it leaves, refuses and survives."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from rocketrank.data.qrels import read_qrels
from rocketrank.data.runs import read_run
from rocketrank.engine import SearchEngine
from rocketrank.index import Index
from rocketrank.model_settings import folder_settings
from rocketrank.models import open_model
from rocketrank.training.lists import read_lists
from rocketrank.training.pipeline import run_pipeline
from rocketrank.training.recipe import read_recipe

from .small_pipeline import ANIMALS, FACTS, write_data, write_recipe

SOURCE = Path(__file__).resolve().parents[2] / "src"
STOPPED = 143

# Every one runs models or works with what they left.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe_file(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), shared_reference)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def pipeline_command(recipe: Path, data: Path, output: Path) -> list[str]:
    options = ["--data", str(data), "--output", str(output), "--threads", "1"]
    return [sys.executable, "-m", "rocketrank", "train", str(recipe), "--pipeline", *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "RQ_DEBUG": "1"}


class Finished:
    """A pipeline that ran to its end in a process of its own."""

    def __init__(self, recipe: Path, data: Path, output: Path) -> None:
        self.folder = output
        self.command = pipeline_command(recipe, data, output)
        self.run = subprocess.run(self.command, env=environment(), capture_output=True, text=True)
        assert self.run.returncode == 0, self.run.stderr
        self.results = json.loads((output / "results.json").read_bytes())


@pytest.fixture(scope="module")
def finished(recipe_file: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(recipe_file, data, tmp_path_factory.mktemp("finished") / "out")


def test_it_ends_with_a_pair_that_searches_its_index(finished: Finished) -> None:
    folder = finished.folder
    assert open_model(folder / "retriever").settings.role == "dual-encoder"
    assert open_model(folder / "reranker").settings.role == "cross-encoder"
    assert folder_settings(folder / "reranker").fusion == finished.results["fusion"]
    with SearchEngine.open(folder / "index", reranker=folder / "reranker") as engine:
        hits = engine.search("what is the food of the owl", k=10, fuse="auto")
    assert len({hit.id for hit in hits}) == 10
    made = {each.name for each in folder.iterdir()}
    assert {"recipe.toml", "lists-warmup.jsonl", "lists-joint.report.json", "joint"} <= made
    assert not made & {"index-start", "index-warm"}
    assert not [name for name in made if "partial" in name]


def test_the_figures_are_printed_with_what_can_be_done_next(finished: Finished) -> None:
    lines = finished.run.stdout.splitlines()
    test = finished.results["test"]["systems"]["two_stages"]["nDCG@10"]
    place = lines.index(next(line for line in lines if line.startswith("test, 12 queries")))
    words = [line.split("  ")[0] for line in lines[place + 1 : place + 7]]
    assert words == [
        "start",
        "retriever",
        "reranker",
        "two stages",
        "two stages - retriever",
        "retriever - start",
    ]
    assert f"{test['mean']:.4f} ({test['low']:.4f} to {test['high']:.4f})" in lines[place + 4]
    asked = f'rq search "…" --index {finished.folder / "index"}'
    assert lines[-2].startswith(f"Now ask it:  {asked}")
    assert lines[-1] == f"or by words too:  {asked} --first-stage hybrid"


def test_a_finished_one_is_left_as_it_is(finished: Finished) -> None:
    def state() -> dict[str, int]:
        paths = finished.folder.rglob("*")
        return {str(each): each.stat().st_mtime_ns for each in paths if each.is_file()}

    before = state()
    again = subprocess.run(finished.command, env=environment(), capture_output=True, text=True)
    assert again.returncode == 0
    assert "holds a finished pipeline of this recipe; nothing was done" in again.stderr
    assert again.stdout == finished.run.stdout
    assert state() == before


def test_no_dev_query_is_trained_on_and_every_stage_has_the_same(finished: Finished) -> None:
    folder = finished.folder
    dev = {each.query_id for each in read_qrels(folder / "dev.qrels")}
    assert len(dev) == 6  # a quarter of 24
    for name in ("lists-warmup.jsonl", "lists-joint.jsonl"):
        trained = {each.query_id for each in read_lists(folder / name)}
        assert trained and not trained & dev
    for name in ("dev.jsonl", "dev-joint.jsonl"):
        assert {each.query_id for each in read_lists(folder / name)} == dev


def test_dev_lists_are_what_was_found_and_labelled_by_the_judgements(finished: Finished) -> None:
    judged = {
        (each.query_id, each.passage_id) for each in read_qrels(finished.folder / "dev.qrels")
    }
    lists = list(read_lists(finished.folder / "dev.jsonl"))
    found = [(each.query_id, one) for each in lists for one in each.candidates]
    assert all(one.label == ((query_id, one.id) in judged) for query_id, one in found)
    assert {len(each.candidates) for each in lists} == {36}
    assert all(one.source.startswith("retriever:") for _, one in found)
    # with models of random weights not every positive is among the first 36 of 48 passages
    assert not all(each.positives for each in lists)


def ranking(finished: Finished, name: str) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for entry in read_run(finished.folder / "runs" / f"{name}.trec"):
        lists.setdefault(entry.query_id, []).append(entry.passage_id)
        assert entry.rank == len(lists[entry.query_id])
    return lists


def ndcg(ranked: list[str], grades: Mapping[str, int]) -> float:
    """nDCG@10 as trec_eval defines it, written anew."""
    gains = [grades.get(each, 0) for each in ranked[:10]]
    ideal = sorted(grades.values(), reverse=True)[:10]
    cumulated, best = (
        sum(gain / math.log2(rank + 1) for rank, gain in enumerate(each, start=1))
        for each in (gains, ideal)
    )
    return cumulated / best


@pytest.mark.parametrize("system", ["start", "retriever", "reranker", "two_stages"])
def test_figures_are_those_of_the_runs(finished: Finished, data: Path, system: str) -> None:
    lists = ranking(finished, f"test.{system}")
    grades: dict[str, dict[str, int]] = {}
    for query_id, passage_id, grade in read_qrels(data / "test.txt"):
        grades.setdefault(query_id, {})[passage_id] = grade
    values = [ndcg(lists[query_id], own) for query_id, own in grades.items()]
    figures = finished.results["test"]
    assert figures["queries"] == len(values) == 12
    mean = figures["systems"][system]["nDCG@10"]["mean"]
    assert mean == pytest.approx(sum(values) / len(values), abs=1e-6)

    seen = {each.passage_id for each in read_qrels(finished.folder / "train.qrels")}
    for kind in ("seen", "unseen"):
        values, positives = [], 0
        passages: set[str] = set()
        for query_id, own in grades.items():
            kept = {each: own[each] for each in own if (each in seen) == (kind == "seen")}
            if kept:
                rest = [each for each in lists[query_id] if each in kept or each not in own]
                values.append(ndcg(rest, kept))
                positives += len(kept)
                passages |= kept.keys()
        found = figures["positives"][kind]
        counts = (found["positives"], found["passages"], found["queries"])
        assert counts == (positives, len(passages), len(values))
        assert found["nDCG@10"][system] == pytest.approx(sum(values) / len(values), abs=1e-6)


def test_the_weight_is_the_best_on_dev_and_the_depth_cuts_the_lists(finished: Finished) -> None:
    results = finished.results
    choice, depth = results["choice"], results["rerank_depth"]
    assert choice["value"] == max(each["value"] for each in choice["by_depth"].values())
    best = [
        int(key) for key, each in choice["by_depth"].items() if each["value"] == choice["value"]
    ]
    assert depth == min(best)
    dev = results["dev"]["systems"]["two_stages"]["nDCG@10"]["mean"]
    assert dev == pytest.approx(choice["value"], abs=1e-6)
    assert {len(each) for each in ranking(finished, "test.two_stages").values()} == {depth}
    first = {query: set(ids[:depth]) for query, ids in ranking(finished, "test.retriever").items()}
    for name in ("test.reranker", "test.two_stages"):
        assert {query: set(ids) for query, ids in ranking(finished, name).items()} == first


MID_TRAINING = "joint/checkpoints/step-*[2-9]"
# What is there first when a step is in its middle, or begins; it stays there for a while.
MIDDLES = (
    "index-start/segments/000001/passages.sqlite",
    "dev.jsonl",  # then lists are mined
    "retriever-warmup/checkpoints/*",
    "reranker-warmup/metrics.jsonl",
    "dev-joint.jsonl",  # then lists are mined and denoised
    MID_TRAINING,
    "retriever",  # then the re-ranker is copied
    "runs/dev.*",
)


def killed_in_the_middle(command: list[str], output: Path, middle: str, number: int) -> int:
    """Run until something of ``middle`` is there, send the signal, and give the exit status."""
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None and not any(output.glob(middle)):
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate()
    if number == signal.SIGTERM:
        assert b"; the same command goes on." in said
    return process.returncode


def test_killed_in_the_middle_of_its_steps_it_ends_with_the_same_models(
    finished: Finished, recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = pipeline_command(recipe_file, data, output)
    for middle in MIDDLES:
        assert not any(output.glob(middle)), f"{middle} came before its step"
        assert killed_in_the_middle(command, output, middle, signal.SIGKILL) == -signal.SIGKILL
    last = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    # where the first step was the best one, the models alone would say nothing of the others
    ends = [max(each.glob("joint/checkpoints/step-*")) for each in (output, finished.folder)]
    assert ends[0].name == ends[1].name
    weights = [sorted(each.glob("*.safetensors")) for each in ends]
    for name in ("retriever", "reranker"):
        for each, folder in zip(weights, (output, finished.folder), strict=True):
            each.append(folder / name / "model.safetensors")
    assert len(weights[0]) > 2
    for ours, theirs in zip(*weights, strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), theirs
    assert (output / "results.json").read_bytes() == (finished.folder / "results.json").read_bytes()
    assert {each.name for each in output.iterdir()} == {
        each.name for each in finished.folder.iterdir()
    }


def test_a_signal_in_a_stage_stops_it_with_a_checkpoint_and_says_so(
    finished: Finished, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished.folder, output)
    # as if it had come to the joint stage
    for name in ("joint", "retriever", "reranker", "index", "runs"):
        shutil.rmtree(output / name)
    (output / "results.json").unlink()
    shutil.copytree(finished.folder / "index", output / "index-start")
    shutil.copytree(finished.folder / "index", output / "index-warm")
    command = [each if each != str(finished.folder) else str(output) for each in finished.command]
    assert killed_in_the_middle(command, output, MID_TRAINING, signal.SIGTERM) == STOPPED
    assert any((output / "joint" / "checkpoints").iterdir())
    assert not (output / "joint" / "metrics.json").exists()


def test_a_run_and_candidates_stand_for_retrieval_and_mining(
    finished: Finished, recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    names = ("lists-warmup.jsonl", "dev.qrels", "dev.queries.jsonl", "train.qrels")
    for name in names:
        shutil.copyfile(finished.folder / name, folder / name)
    ids = [f"{animal}-{fact}" for animal in ANIMALS for fact in FACTS]
    for part, number in (("dev", 20), ("test", 12)):
        lines = [
            f"{query_id} Q0 {each} {rank} {-rank} given\n"
            for query_id in ranking(finished, f"{part}.start")
            for rank, each in enumerate(ids[:number], start=1)
        ]
        (folder / f"{part}.trec").write_text("".join(lines))
    changed = {
        "data.queries": "",
        "data.qrels": "",
        "data.candidates": "lists-warmup.jsonl",
        "data.dev_queries": "dev.queries.jsonl",
        "data.dev_qrels": "dev.qrels",
        "data.dev_run": "dev.trec",
        "data.test_run": "test.trec",
        "retriever.epochs": "0",
        "joint.epochs": "0",
    }
    recipe = read_recipe(recipe_file, changed)
    output = tmp_path / "out"
    outcome = run_pipeline(recipe, data=folder, output=output, threads=1)
    assert outcome.finished
    systems = outcome.results["test"]["systems"]
    assert [*systems] == ["run", "start", "retriever", "reranker", "two_stages"]
    assert systems["start"] == systems["retriever"]  # which no stage has trained
    made = {each.name for each in output.iterdir()}
    assert {"retriever", "reranker", "index", "lists-warmup.jsonl"} <= made
    assert not made & {"index-start", "index-warm", "lists-joint.jsonl", "joint"}
    whole = {entry.passage_id for entry in read_run(output / "runs" / "test.reranker.trec")}
    assert whole == set(ids[:12])
    with Index.open(output / "index") as index:
        assert index.fingerprint == open_model(output / "retriever").fingerprint
