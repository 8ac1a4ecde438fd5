"""A real collection through the commands that a user types, against the published quality."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import nDCG
from numpy.typing import NDArray

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.qrels import read_qrels
from rocketrank.data.queries import read_queries
from rocketrank.data.runs import read_run
from rocketrank.eval import judged_candidates, load_qrels
from rocketrank.index import BuildOptions, Index, build_index
from rocketrank.models import Model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scifact(shared_data: Path) -> Path:
    return shared_data / "scifact"


@pytest.fixture(scope="module")
def index(scifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SciFact as ``rq index`` makes it with the defaults: minilm at 256 tokens."""
    directory = tmp_path_factory.mktemp("scifact") / "scifact.index"
    rq("index", str(scifact / "corpus.jsonl.gz"), "--model", "minilm", "--index", str(directory))
    return directory


def rq(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "rocketrank", *arguments], check=True)


def ndcg(scifact: Path, scored: Iterable[tuple[str, str, float]]) -> float:
    """nDCG@10 on the test judgements, by ir_measures."""
    judgements = list(read_qrels(scifact / "qrels" / "test.tsv"))
    qrels = [ir_measures.Qrel(j.query_id, j.passage_id, j.relevance) for j in judgements]
    judged = {judgement.query_id for judgement in judgements}
    run = [ir_measures.ScoredDoc(*each) for each in scored if each[0] in judged]
    return float(ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10])


class StoredVectors:
    """Gives the vectors of an index again, so that another structure need not wait for encoding."""

    def __init__(self, directory: Path) -> None:
        with Index.open(directory) as index:
            self.dim, self.fingerprint = index.dim, index.fingerprint
            self.name = index.model_name
        files = sorted((directory / "segments/000001/vectors").iterdir())
        self._vectors: NDArray[np.float32] = np.concatenate([np.load(file) for file in files])
        self._used = 0

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        self._used += len(texts)
        return self._vectors[self._used - len(texts) : self._used]


def test_the_commands_reach_the_published_quality(
    scifact: Path, index: Path, tmp_path: Path
) -> None:
    run = tmp_path / "scifact.trec"
    queries = str(scifact / "queries.jsonl")
    options = ["--index", str(index), "--k", "100", "--output", str(run)]
    rq("search", "--queries", queries, *options)
    entries = ((entry.query_id, entry.passage_id, entry.score) for entry in read_run(run))
    assert ndcg(scifact, entries) >= 0.643  # published: 0.645


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_structure_loses_little_of_it(
    scifact: Path, index: Path, tmp_path: Path, kind: str
) -> None:
    directory = tmp_path / "index"
    corpus = CorpusReader([scifact / "corpus.jsonl.gz"])
    build_index(directory, corpus, StoredVectors(index), BuildOptions(kind=kind))
    queries = list(read_queries(scifact / "queries.jsonl"))
    with SearchEngine.open(directory) as engine:
        found = engine.search_many([query.text for query in queries], k=100)
    scored = (
        (query.id, hit.id, hit.score)
        for query, hits in zip(queries, found, strict=True)
        for hit in hits
    )
    assert ndcg(scifact, scored) >= 0.640


def test_probabilities_that_were_fitted_on_training_queries_hold_on_test_queries(
    index: Path, scifact: Path, minilm: Model, tmp_path: Path
) -> None:
    """Their mean is the share of relevant passages, and they tell more than that share does."""
    model = shutil.copytree(minilm.path, tmp_path / "model")
    asked = ("--index", str(index), "--model", str(model), "--calibrate", "--save")
    rq("eval", *asked, "--dataset", "scifact", "--split", "train", "--data", str(scifact))
    qrels = load_qrels(scifact / "qrels" / "test.tsv")
    queries = [each for each in read_queries(scifact / "queries.jsonl") if each.id in qrels]
    with SearchEngine.open(index, model=model) as engine:
        answers = engine.search_many([each.text for each in queries], k=100)
    told = {
        query.id: {hit.id: hit.probability or 0.0 for hit in hits}
        for query, hits in zip(queries, answers, strict=True)
    }
    found = judged_candidates(told, qrels)
    probability, relevant = np.array(found.scores), np.array(found.labels)
    share = relevant.mean()
    assert probability.mean() == pytest.approx(share, rel=0.1)
    for low, high in ((0.0, 0.02), (0.02, 0.1), (0.1, 1.0)):
        inside = (probability >= low) & (probability < high)
        assert probability[inside].mean() == pytest.approx(relevant[inside].mean(), rel=0.25)
    brier = np.mean((probability - relevant) ** 2)
    assert brier < 0.9 * share * (1 - share)
