"""Texts to token ids, over the Rust library ``tokenizers``.

Truncation and padding that are saved in ``tokenizer.json`` are ignored: lengths come from the
model's settings, and padding is the work of whoever makes the batch.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import tokenizers
from numpy.typing import NDArray

from .errors import DataError, UsageError
from .model_config import read_json_object

# The names that vocab.txt models use for their special tokens unless their files say otherwise.
_BERT_TOKENS = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
_BERT_TOKENS |= {"pad_token": "[PAD]", "mask_token": "[MASK]"}
_MPNET_TOKENS = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "[UNK]"}
_MPNET_TOKENS |= {"pad_token": "<pad>", "mask_token": "<mask>"}

# What a tokenizer may be made of, as patterns of file names.
_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentence_*_config.json",
)

# Options of tokenizer_config.json and what BertNormalizer calls them in tokenizer.json.
_NORMALIZER_KEYS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

_MAKE_TOKENIZER_JSON = (
    'make tokenizer.json where transformers is installed: python -c "from transformers import '
    "AutoTokenizer; AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')\""
)


class Tokens(NamedTuple):
    """The ids of a text or pair with its special tokens; ``truncated`` if some did not fit."""

    ids: list[int]
    type_ids: list[int]
    truncated: bool


class TokenizerSource(NamedTuple):
    """The file that holds a vocabulary, and every other option that changes the ids of a text."""

    path: Path
    options: dict[str, Any]


def tokenizer_source(folder: Path) -> TokenizerSource:
    """Where the tokenizer of a model folder comes from; a ``DataError`` where it has none."""
    path = folder / "tokenizer_config.json"
    config = read_json_object(path) if path.exists() else {}
    lower = any(
        read_json_object(file).get("do_lower_case") is True
        for file in sorted(folder.glob("sentence_*_config.json"))
    )
    if (folder / "tokenizer.json").exists():
        options = _normalizer_overrides(config)
        return TokenizerSource(folder / "tokenizer.json", {**options, "lower_text": lower})
    if (folder / "vocab.txt").exists():
        options = _vocabulary_options(folder, config)
        return TokenizerSource(folder / "vocab.txt", {**options, "lower_text": lower})
    found = [name for name in ("sentencepiece.bpe.model", "vocab.json") if (folder / name).exists()]
    if found:
        cure = _MAKE_TOKENIZER_JSON.format(folder=folder)
        raise DataError(f"{folder} has {found[0]} but no tokenizer.json: {cure}")
    raise DataError(
        f"{folder} has no tokenizer: copy the tokenizer.json or the vocab.txt with which the model "
        "was trained into it"
    )


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy what the tokenizer of the model folder ``source`` is made of. Raises OSError."""
    for pattern in _FILES:
        for file in source.glob(pattern):
            shutil.copyfile(file, target / file.name)


class Tokenizer:
    """Encodes texts and pairs to at most ``length`` tokens. It never changes: threads may share it.

    The ends of a text are stripped of white space, as sentence-transformers does, so that a stray
    newline is no token of byte-level vocabularies.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, length: int, pad_id: int, lower: bool):
        """For ``load``: ``backend`` without truncation and padding, and owned by this object."""
        self._backend = backend
        self._lower = lower
        self.length = length
        self.pad_id = pad_id

    @classmethod
    def load(cls, folder: Path, *, length: int) -> "Tokenizer":
        """The tokenizer of a model folder (of one tower), cutting at ``length`` tokens.

        ``length`` counts the special tokens. The padding id is the config's, because position
        ids and masks of the RoBERTa family are made from it, and else the tokenizer's.
        """
        source = tokenizer_source(folder)
        if source.path.name == "tokenizer.json":
            backend, pad_token = _from_tokenizer_json(source)
        else:
            backend, pad_token = _from_vocabulary(source)
        special = backend.num_special_tokens_to_add(False)
        if length <= special:
            raise UsageError(
                f"length ({length}) must be above {special}, the special tokens of every text"
            )
        path = folder / "config.json"
        config = read_json_object(path) if path.exists() else {}
        embedded, known = config.get("vocab_size"), backend.get_vocab_size()
        if isinstance(embedded, int) and known > embedded:
            raise DataError(
                f"{source.path} knows {known} tokens, but the model has embeddings for {embedded} "
                f"by {path}: give the tokenizer that belongs to the model"
            )
        pad_id = _padding_id(config, backend, pad_token)
        return cls(backend, length=length, pad_id=pad_id, lower=source.options["lower_text"])

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of every text, in the caller's order."""
        return self._encode([self._prepared(text) for text in texts])

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Tokens]:
        """The tokens of every pair. What is too long loses the end of its longer text first."""
        special = self._backend.num_special_tokens_to_add(True)
        if self.length < special + 2:
            raise UsageError(
                f"length ({self.length}) must be at least {special + 2} for pairs, which have "
                f"{special} special tokens"
            )
        return self._encode([(self._prepared(a), self._prepared(b)) for a, b in pairs])

    def spans(self, text: str) -> NDArray[np.int64]:
        """The characters (n, 2) that each token of ``text`` was made of, special tokens left out.

        What the tokenizer passes over is in none of them; several tokens may be of one character.
        """
        return np.array(self._encoding(text).offsets, dtype=np.int64).reshape(-1, 2)

    def _encoding(self, text: str) -> tokenizers.Encoding:
        try:
            return self._backend.encode(text, add_special_tokens=False)
        except TypeError:
            return self._backend.encode(_without_lone_surrogates(text), add_special_tokens=False)

    def _prepared(self, text: str) -> str:
        text = text.strip()
        return text.lower() if self._lower else text

    def _encode(self, inputs: Sequence[str] | Sequence[tuple[str, str]]) -> list[Tokens]:
        # The fast form leaves out character offsets; older versions of the library lack it.
        encode = getattr(self._backend, "encode_batch_fast", self._backend.encode_batch)
        try:
            encodings = encode(inputs)
        except TypeError:
            # Half of a surrogate pair ("\ud800" in JSON) has no UTF-8, which the library needs.
            encodings = encode([_without_lone_surrogates(item) for item in inputs])
        return [self._cut(encoding) for encoding in encodings]

    def _cut(self, encoding: tokenizers.Encoding) -> Tokens:
        """Cut to ``length`` here: the library's own truncation keeps what it cut off in overlapping
        pieces, for a pair of long texts all combinations of them, which takes gigabytes."""
        ids = encoding.ids
        if len(ids) <= self.length:
            return Tokens(ids, encoding.type_ids, False)
        owners = encoding.sequence_ids
        first, second = owners.count(0), owners.count(1)
        room = self.length - (len(ids) - first - second)
        first_kept, second_kept = _longest_first(first, second, room)
        types = encoding.type_ids
        # The second text lies behind the first, whose positions its deletion leaves as they are.
        for owner, count, kept in ((1, second, second_kept), (0, first, first_kept)):
            start = owners.index(owner) if count else 0
            del ids[start + kept : start + count]
            del types[start + kept : start + count]
        return Tokens(ids, types, True)


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens each text keeps: the shorter all it has, up to its half of the room.

    As Hugging Face's ``longest_first`` in its fast tokenizers; of an odd room, the longer text
    (the second, where both are equally long) gets the token more.
    """
    if first + second <= room:
        return first, second
    if first <= second:
        kept = min(first, room // 2)
        return kept, room - kept
    kept = min(second, room // 2)
    return room - kept, kept


def _without_lone_surrogates(item: str | tuple[str, str]) -> str | tuple[str, str]:
    if isinstance(item, tuple):
        first, second = (text.encode("utf-16", "surrogatepass") for text in item)
        return first.decode("utf-16", "replace"), second.decode("utf-16", "replace")
    return item.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _normalizer_overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``tokenizer_config.json`` says against the normaliser saved in ``tokenizer.json``.

    The named fast classes of Hugging Face (BertTokenizer and its kin) rebuild the normaliser from
    these keys where they are written; the general class PreTrainedTokenizerFast does not.
    """
    if config.get("tokenizer_class", "PreTrainedTokenizerFast") == "PreTrainedTokenizerFast":
        return {}
    return {key: config[key] for key in _NORMALIZER_KEYS if isinstance(config.get(key), bool)}


def _vocabulary_options(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a ``vocab.txt``, with Hugging Face's defaults for what no file says."""
    model = read_json_object(folder / "config.json") if (folder / "config.json").exists() else {}
    path = folder / "special_tokens_map.json"
    written = {**(read_json_object(path) if path.exists() else {}), **config}
    mpnet = model.get("model_type") == "mpnet"
    tokens = {
        key: _token_text(written.get(key), default)
        for key, default in (_MPNET_TOKENS if mpnet else _BERT_TOKENS).items()
    }
    accents = config.get("strip_accents")
    return {
        **tokens,
        "do_lower_case": config.get("do_lower_case", True) is True,
        "strip_accents": accents if isinstance(accents, bool) else None,
        "tokenize_chinese_chars": config.get("tokenize_chinese_chars", True) is True,
        "two_separators": mpnet,
    }


def _token_text(value: object, default: str) -> str:
    """A special token is written as a string, or as an object with its ``content``."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else default


def _from_tokenizer_json(source: TokenizerSource) -> tuple[tokenizers.Tokenizer, str | None]:
    """The tokenizer and the text of its padding token, where its file or its neighbours name it."""
    try:
        backend = tokenizers.Tokenizer.from_buffer(source.path.read_bytes())
    # The library raises plain Exception, with the place in the file in its message.
    except Exception as error:
        raise DataError(
            f"{source.path} cannot be read as a tokenizer ({error}): copy it again, or update the "
            "package tokenizers"
        ) from error
    padding = backend.padding
    backend.no_truncation()
    backend.no_padding()
    overrides = {
        _NORMALIZER_KEYS[key]: value
        for key, value in source.options.items()
        if key in _NORMALIZER_KEYS
    }
    if overrides and isinstance(backend.normalizer, tokenizers.normalizers.BertNormalizer):
        state = orjson.loads(backend.normalizer.__getstate__())
        state.pop("type", None)
        backend.normalizer = tokenizers.normalizers.BertNormalizer(**{**state, **overrides})
    path = source.path.parent / "tokenizer_config.json"
    config = read_json_object(path) if path.exists() else {}
    saved = padding["pad_token"] if padding else None
    return backend, _token_text(config.get("pad_token"), "") or saved


def _from_vocabulary(source: TokenizerSource) -> tuple[tokenizers.Tokenizer, str | None]:
    """A WordPiece tokenizer as BERT's, and the text of its padding token."""
    options = source.options
    vocabulary = _read_vocabulary(source.path)
    for key in ("unk_token", "cls_token", "sep_token"):
        if options[key] not in vocabulary:
            raise DataError(
                f'{source.path} has no token "{options[key]}": write the {key} of this vocabulary '
                "into tokenizer_config.json, or copy the vocab.txt of the model again"
            )
    cls_token, separator = options["cls_token"], options["sep_token"]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            vocabulary, unk_token=options["unk_token"], max_input_chars_per_word=100
        )
    )
    special = [options[key] for key in _BERT_TOKENS if options[key] in vocabulary]
    backend.add_special_tokens(special)
    backend.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options["tokenize_chinese_chars"],
        strip_accents=options["strip_accents"],
        lowercase=options["do_lower_case"],
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    middle = f"{separator}:0 {separator}:0" if options["two_separators"] else f"{separator}:0"
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls_token}:0 $A:0 {separator}:0",
        pair=f"{cls_token}:0 $A:0 {middle} $B:1 {separator}:1",
        special_tokens=[(token, vocabulary[token]) for token in (cls_token, separator)],
    )
    return backend, options["pad_token"]


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Token to id: one token a line, or ``token<TAB>id`` as in the vocabularies of ERNIE."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, found {error.reason}") from None
    vocabulary: dict[str, int] = {}
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines):
        token, tab, index = line.partition("\t")
        if tab and not index.isdecimal():
            raise DataError(f'{path}:{number + 1}: expected an id, found "{index}"')
        vocabulary[token] = int(index) if tab else number
    return vocabulary


def _padding_id(
    config: Mapping[str, Any], backend: tokenizers.Tokenizer, pad_token: str | None
) -> int:
    """``pad_token_id`` of the config, the id of the padding token, or 0."""
    value = config.get("pad_token_id")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = backend.token_to_id(pad_token) if pad_token else None
    return 0 if found is None else found
