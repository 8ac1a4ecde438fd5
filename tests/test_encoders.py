"""Both exported engines against outputs of an independent implementation, and their invariances."""

import gzip
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from rocketrank.errors import RocketRankError, UsageError
from rocketrank.inference import EngineName, cpu_has_bf16
from rocketrank.models import open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder

from .tiny_models import ENGINES, tiny_encoder, tiny_scorer

ENCODERS = ["tiny-bert", "tiny-distilbert", "tiny-roberta", "tiny-mpnet", "tiny-ernie"]
CROSS_ENCODERS = ["tiny-bert-cross-encoder", "tiny-xlm-roberta-cross-encoder"]

needs_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16 arithmetic")


class Sample:
    """The 48 passages and 16 queries of the reference, and their embeddings."""

    def __init__(self, data: Path, reference: Path) -> None:
        archive = np.load(reference / "minilm_scifact.npz")
        kinds, ids = archive["kind"].tolist(), archive["ids"].tolist()
        of_kind = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in set(kinds)}
        passages, queries = of_kind["passage"], of_kind["query"]
        with gzip.open(data / "scifact" / "corpus.jsonl.gz") as file:
            documents = {d["_id"]: d for d in map(orjson.loads, file)}
        lines = (data / "scifact" / "queries.jsonl").read_bytes().splitlines()
        questions = {q["_id"]: q["text"] for q in map(orjson.loads, lines)}
        self.texts = [documents[ids[i]]["text"] for i in passages]
        self.titles = [documents[ids[i]]["title"] for i in passages]
        self.queries = [questions[ids[i]] for i in queries]
        self.embeddings: NDArray[np.float32] = archive["embeddings"][passages + queries]

    def encode(self, encoder: DualEncoder) -> NDArray[np.float32]:
        return np.concatenate(
            [encoder.encode_passages(self.texts, self.titles), encoder.encode_queries(self.queries)]
        )


@pytest.fixture(scope="module")
def sample(shared_data: Path, shared_reference: Path) -> Sample:
    return Sample(shared_data, shared_reference)


def smallest_cosine(vectors: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((vectors * expected).sum(axis=1) / norms).min())


@pytest.mark.parametrize("engine", ENGINES)
def test_minilm_in_fp32_equals_the_reference(sample: Sample, engine: EngineName) -> None:
    vectors = sample.encode(DualEncoder.load("minilm", engine=engine, precision="fp32"))
    assert vectors.dtype == np.float32
    assert smallest_cosine(vectors, sample.embeddings) >= 0.99999


@needs_bf16
@pytest.mark.parametrize("engine", ENGINES)
def test_minilm_in_bf16_stays_close_to_the_reference(sample: Sample, engine: EngineName) -> None:
    vectors = sample.encode(DualEncoder.load("minilm", engine=engine, precision="bf16"))
    assert smallest_cosine(vectors, sample.embeddings) >= 0.999


def test_minilm_in_dygraph_equals_the_reference(sample: Sample) -> None:
    from rocketrank import backbone
    from rocketrank.runtime import make_batches
    from rocketrank.tokenizing import Tokenizer

    model = open_model("minilm")
    paddle = backbone.paddle_module()
    tower = backbone.load_tower(model.path, model.config(), pooling="mean", normalize=True)
    tokenizer = Tokenizer.load(model.path, length=256)
    tokens = tokenizer.encode(sample.queries)
    vectors = np.empty((len(tokens), 384), dtype=np.float32)
    for batch in make_batches(tokens, pad_id=tokenizer.pad_id, longest=256):
        with paddle.no_grad():
            vectors[batch.rows] = tower(*map(paddle.to_tensor, batch[1:])).numpy()
    assert smallest_cosine(vectors, sample.embeddings[-len(tokens) :]) >= 0.99999


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ENCODERS)
def test_the_first_state_of_every_architecture_equals_the_reference(
    shared_reference: Path, name: str, engine: EngineName
) -> None:
    folder = shared_reference / name
    pairs = orjson.loads((folder / "pairs.json").read_bytes())
    vectors = tiny_encoder(folder, engine).encode_passages([passage for _, passage in pairs])
    expected = np.load(folder / "expected.npz")["single_output"][:, 0]
    np.testing.assert_allclose(vectors, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CROSS_ENCODERS)
def test_the_scores_of_pairs_equal_the_reference(
    shared_reference: Path, name: str, engine: EngineName
) -> None:
    folder = shared_reference / name
    pairs = [(q, p) for q, p in orjson.loads((folder / "pairs.json").read_bytes())]
    scores = tiny_scorer(folder, engine).score(pairs)
    expected = np.load(folder / "expected.npz")["pair_output"][:, 0]
    np.testing.assert_allclose(scores, expected, atol=2e-5, rtol=0)


def test_a_title_as_a_segment_of_its_own_is_read_as_a_pair(shared_reference: Path) -> None:
    folder = shared_reference / "tiny-ernie"
    pairs = orjson.loads((folder / "pairs.json").read_bytes())
    titles, texts = zip(*pairs, strict=True)
    vectors = tiny_encoder(folder, title="pair").encode_passages(texts, titles)
    expected = np.load(folder / "expected.npz")["pair_output"][:, 0]
    np.testing.assert_allclose(vectors, expected, atol=2e-5, rtol=0)


def test_a_text_gets_the_same_vector_alone_and_among_others(sample: Sample) -> None:
    encoder = DualEncoder.load("minilm", precision="fp32")
    together = encoder.encode_passages(sample.texts[:12])
    alone = np.concatenate([encoder.encode_passages([text]) for text in sample.texts[:12]])
    np.testing.assert_allclose(alone, together, atol=1e-5, rtol=0)


def test_results_come_back_in_the_order_of_the_texts(shared_reference: Path) -> None:
    encoder = tiny_encoder(shared_reference / "tiny-bert")
    texts = [f"{'word ' * (n * 7 % 23)}number {n}" for n in range(1500)]  # more than one window
    vectors = encoder.encode_passages(texts)
    backwards = encoder.encode_passages(texts[::-1])
    np.testing.assert_allclose(backwards[::-1], vectors, atol=1e-5, rtol=0)
    assert len(np.unique(vectors.round(4), axis=0)) == len(texts)


def test_prefixes_are_part_of_what_is_encoded(shared_reference: Path) -> None:
    folder = shared_reference / "tiny-bert"
    prefixed = tiny_encoder(folder, query_prefix="query: ", passage_prefix="passage: ")
    plain = tiny_encoder(folder)
    np.testing.assert_array_equal(
        prefixed.encode_queries(["goldfish"]), plain.encode_queries(["query: goldfish"])
    )
    np.testing.assert_array_equal(
        prefixed.encode_passages(["grow"], ["Fish"]), plain.encode_passages(["passage: Fish grow"])
    )


def test_prefixes_of_a_cross_encoder_are_part_of_what_it_reads(shared_reference: Path) -> None:
    scorer = tiny_scorer(shared_reference / "tiny-bert-cross-encoder")
    settings = replace(scorer.model.settings, query_prefix="query: ", passage_prefix="text: ")
    prefixed = CrossEncoder(replace(scorer.model, settings=settings), scorer.runtime)
    np.testing.assert_array_equal(
        prefixed.score([("goldfish", "grow")]), scorer.score([("query: goldfish", "text: grow")])
    )


def test_an_encoder_can_be_sent_to_another_process(shared_reference: Path) -> None:
    encoder = tiny_encoder(shared_reference / "tiny-bert")
    before = encoder.encode_queries(["a flea"])
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.encode_queries(["a flea"]), before)


def test_a_model_of_the_other_role_is_refused_as_an_object_too(shared_reference: Path) -> None:
    with pytest.raises(UsageError, match="minilm is a dual-encoder, but a cross-encoder is wanted"):
        CrossEncoder.load(open_model("minilm"))


def test_a_long_query_is_cut_with_a_note(
    shared_reference: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = tiny_encoder(shared_reference / "tiny-bert")
    vectors = encoder.encode_queries(["flea " * 10_000, "a flea"])
    assert vectors.shape == (2, 32)
    assert "1 of 2 queries longer than the 64 tokens this model reads: cut there" in caplog.text


def test_passages_that_were_cut_are_counted(shared_reference: Path) -> None:
    encoder = tiny_encoder(shared_reference / "tiny-bert")
    encoder.encode_passages(["a " * 100, "a"])
    encoder.encode_passages(["a " * 62, "a " * 63])  # 62 and two special tokens just fit
    assert encoder.truncated_passages == 2


def test_no_texts_give_no_vectors(shared_reference: Path) -> None:
    folder = shared_reference
    assert tiny_encoder(folder / "tiny-bert").encode_queries([]).shape == (0, 32)
    assert tiny_scorer(folder / "tiny-bert-cross-encoder").score([]).shape == (0,)


def test_a_single_string_is_refused_instead_of_read_letter_by_letter(
    shared_reference: Path,
) -> None:
    with pytest.raises(UsageError, match="expected a list of texts, found one text"):
        tiny_encoder(shared_reference / "tiny-bert").encode_queries("flea")


def test_titles_that_do_not_match_the_texts_are_refused(shared_reference: Path) -> None:
    with pytest.raises(UsageError, match="1 titles for 2 texts"):
        tiny_encoder(shared_reference / "tiny-bert").encode_passages(["a", "b"], ["t"])


def test_threads_that_share_an_encoder_get_what_one_alone_gets(shared_reference: Path) -> None:
    folder = shared_reference / "tiny-bert"
    texts = [[f"flea {'jumps ' * (i + n)}" for n in range(40)] for i in range(8)]
    expected = [tiny_encoder(folder).encode_passages(part) for part in texts]
    encoder = tiny_encoder(folder)  # not loaded yet: the threads race for that too
    found: dict[int, NDArray[np.float32]] = {}

    def work(number: int) -> None:
        found[number] = encoder.encode_passages(texts[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, vectors in enumerate(expected):
        np.testing.assert_allclose(found[number], vectors, atol=1e-6, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_can_be_dropped_and_loaded_again(
    shared_reference: Path, engine: EngineName
) -> None:
    first = tiny_encoder(shared_reference / "tiny-bert", engine)
    before = first.encode_queries(["a flea"])
    del first
    again = tiny_encoder(shared_reference / "tiny-bert", engine).encode_queries(["a flea"])
    np.testing.assert_array_equal(again, before)


def test_separate_towers_encode_with_their_own_weights(
    shared_reference: Path, tmp_path: Path
) -> None:
    for tower, name in (("query", "tiny-bert"), ("passage", "tiny-ernie")):
        (tmp_path / tower).symlink_to(shared_reference / name)
    encoder = tiny_encoder(tmp_path, towers="separate")
    query = tiny_encoder(shared_reference / "tiny-bert").encode_queries(["a flea"])
    passage = tiny_encoder(shared_reference / "tiny-ernie").encode_passages(["a flea"])
    np.testing.assert_array_equal(encoder.encode_queries(["a flea"]), query)
    np.testing.assert_array_equal(encoder.encode_passages(["a flea"]), passage)


def test_a_cross_encoder_is_not_taken_for_a_retriever(shared_reference: Path) -> None:
    with pytest.raises(RocketRankError, match="cross-encoder"):
        DualEncoder.load(str(shared_reference / "tiny-bert-cross-encoder"))


def test_encoding_with_an_exported_model_imports_no_paddle(shared_reference: Path) -> None:
    folder = shared_reference / "tiny-bert-cross-encoder"
    CrossEncoder.load(str(folder)).score([("a", "b")])
    code = (
        "import sys; from rocketrank.reranker import CrossEncoder; "
        f"CrossEncoder.load({str(folder)!r}).score([('a', 'b')]); "
        "sys.exit(any(name.startswith('paddle') for name in sys.modules))"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    child = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment})
    assert child.returncode == 0
