"""An ERNIE checkpoint's ``vocab.txt``, and the ``tokenizer.json`` that reads text as it did.

RocketQA tokenises with BERT's basic and WordPiece tokenisers (ERNIE's ``tokenization.py``:
``FullTokenizer`` and ``load_vocab``), always lower-casing. Two habits of its own are kept:

* a line of the vocabulary may be ``token<tab>id`` (ERNIE 1.0's is); else the id is the line number;
* with ``for_cn`` every space is removed from a text before anything else
  (``rocketqa/reader/reader_de_predict.py``, ``reader_ce_predict.py``: ``_read_samples``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from .errors import DataError

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Token → id, and what is done to a text before it is looked up."""

    path: Path
    ids: Mapping[str, int]
    lower_case: bool
    remove_spaces: bool


def read_vocabulary(path: Path, *, lower_case: bool, remove_spaces: bool) -> Vocabulary:
    """Read ``vocab.txt``; DataError when it has no special tokens or a line is none of the two."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, found byte {error.start} that is not") from error
    ids: dict[str, int] = {}
    for number, line in enumerate(lines):
        token, tab, identifier = line.strip().partition("\t")
        if tab and not identifier.isdecimal():
            raise DataError(
                f"{path}:{number + 1}: expected a token, or a token, a tab and its id, "
                f"found {line.strip()!r}"
            )
        if token.strip():
            ids[token.strip()] = int(identifier) if tab else number
    absent = [token for token in _SPECIAL if token not in ids]
    if absent:
        raise DataError(f"{path}: expected the tokens {', '.join(_SPECIAL)}, found no {absent[0]}")
    return Vocabulary(path=path, ids=ids, lower_case=lower_case, remove_spaces=remove_spaces)


def check_vocabulary(vocabulary: Vocabulary, rows: int, config_origin: str) -> None:
    """Every id must have a row in the word embedding (rows without a token are common)."""
    largest = max(vocabulary.ids.values())
    if largest >= rows:
        raise DataError(
            f"{vocabulary.path} has ids up to {largest}, "
            f"but vocab_size in {config_origin} is {rows}: one of them is another model's"
        )


def write_tokenizer(vocabulary: Vocabulary, folder: Path, *, positions: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` into ``folder``."""
    ids = vocabulary.ids
    tokenizer = Tokenizer(models.WordPiece(vocab=dict(ids), unk_token="[UNK]"))
    bert = normalizers.BertNormalizer(lowercase=vocabulary.lower_case)
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Replace(" ", ""), bert])
        if vocabulary.remove_spaces
        else bert
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = decoders.WordPiece()
    special = [*_SPECIAL, *(["[MASK]"] if "[MASK]" in ids else [])]
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": vocabulary.lower_case,
        "model_max_length": positions,
        **{f"{token[1:-1].lower()}_token": token for token in special},
    }
    content = orjson.dumps(settings, option=orjson.OPT_INDENT_2)
    (folder / "tokenizer_config.json").write_bytes(content + b"\n")
