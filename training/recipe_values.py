"""What a recipe holds: its sections, what each value may be, and how it is written in TOML."""

import difflib
import json
import math
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args, get_origin

_WHOLE_MOST = 2**63 - 1
_SHOWN = 60


Lists = Literal["undenoised", "denoised", "hybrid"]
Made = Literal["title", "heading", "sentence", "cloze", "endpoint"]
Schedule = Literal["constant", "linear", "cosine"]
Direction = Literal["student_teacher", "teacher_student"]
Reduction = Literal["query", "element"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
StageName = Literal["retriever", "reranker", "joint"]

STAGES: tuple[StageName, ...] = get_args(StageName)
WEIGHTS = ("supervised", "distillation", "contrastive", "partial_ranking")
"""The keys of a stage that are weights of losses."""

STAGE_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "retriever": {"supervised": 0.0, "distillation": 0.0, "contrastive": 1.0},
    "reranker": {"supervised": 1.0, "distillation": 0.0},
    "joint": {},
}
"""Where the default of a stage is not that of :class:`Stage`."""


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """Files, as they are written in the recipe: relative to the folder given as ``--data``.

    ``candidates`` are ready lists in any format that ``training.list_formats`` reads. Where
    ``dev_queries`` is empty, ``dev_share`` of the training queries is held out. ``dev_run`` and
    ``test_run`` are runs to re-rank; without one the passages are retrieved, ``dev_depth`` deep.
    ``synthesize`` is the number of queries to make from the corpus where there are none; where an
    ``endpoint`` is named, the model there writes its share of them.
    """

    corpus: tuple[str, ...] = ()
    queries: str = ""
    qrels: str = ""
    candidates: str = ""
    synthesize: int = 0
    synthesize_kinds: tuple[Made, ...] = ("title", "heading", "sentence", "cloze")
    endpoint: str = ""
    endpoint_model: str = ""
    endpoint_prompt: str = ""
    dev_queries: str = ""
    dev_qrels: str = ""
    dev_run: str = ""
    dev_share: float = 0.1
    dev_depth: int = 50
    test_queries: str = ""
    test_qrels: str = ""
    test_run: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelsSection:
    """What training starts from. Lengths are in tokens, special tokens included.

    An empty ``reranker`` is the retriever's start with a new head; ``layers`` keeps the first n.
    0 is everywhere the model's own value, -1 for ``dropout``.
    """

    retriever: str = "minilm"
    reranker: str = ""
    layers: int = 0
    scale: float = 0.0
    query_length: int = 0
    passage_length: int = 0
    pair_length: int = 0
    dropout: float = -1.0


@dataclass(frozen=True, kw_only=True)
class MiningSection:
    """Lists from an index: ``depth`` passages a query, and ``bm25`` more by BM25 (0: none).

    At most ``negatives`` are kept a list. Denoising drops candidates whose confidence lies between
    ``low`` and ``high`` and makes positives of those above.
    """

    depth: int = 50
    negatives: int = 20
    bm25: int = 0
    low: float = 0.1
    high: float = 0.9
    lists: Lists = "hybrid"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training stage; the defaults are those of ``[joint]``, see :data:`STAGE_DEFAULTS`.

    A list is one positive and ``list_length`` - 1 negatives. ``clip`` bounds the global norm of
    each model's gradient by itself. ``hardest``, ``margin`` and ``easy`` belong to the partial
    ranking loss, ``direction``, ``teacher_gradient`` and ``reduction`` to distillation.
    """

    epochs: float = 1.0
    lists_per_step: int = 8
    list_length: int = 8
    learning_rate: float = 2e-5
    reranker_learning_rate: float = 0.0
    schedule: Schedule = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    supervised: float = 1.0
    distillation: float = 1.0
    contrastive: float = 0.0
    partial_ranking: float = 0.0
    direction: Direction = "student_teacher"
    teacher_gradient: bool = True
    reduction: Reduction = "query"
    hardest: int = 6
    margin: float = 10.0
    easy: bool = True
    freeze_reranker: bool = False
    precision: Precision = "auto"
    accumulate: int = 1
    recompute: bool = False
    gradient_cache: bool = False
    tokens_per_chunk: int = 8192
    ema: float = 0.0
    validate_every: int = 0
    patience: int = 0
    checkpoint_every: int = 0
    keep: int = 2
    select_by: str = "nDCG@10"


class Range(NamedTuple):
    """The numbers that a key takes. ``besides`` is one more, with a meaning of its own."""

    least: float = 0
    most: float = math.inf
    above: bool = False
    """``least`` itself is outside."""
    below: bool = False
    """``most`` itself is outside."""
    besides: float | None = None
    note: str = ""

    def holds(self, value: float) -> bool:
        if value == self.besides:
            return True
        # Comparing is exact for whole numbers that no float can hold, and false for nan.
        finite = -sys.float_info.max <= value <= sys.float_info.max
        low = self.least < value if self.above else self.least <= value
        return finite and low and (value < self.most if self.below else value <= self.most)

    def words(self, kind: str) -> str:
        least, most = _number(self.least), _number(self.most)
        if math.isinf(self.most):
            text = f"{kind} {'above' if self.above else 'of at least'} {least}"
        elif self.above or self.below:
            low = "above" if self.above else "of at least"
            text = f"{kind} {low} {least} and {'below' if self.below else 'at most'} {most}"
        else:
            text = f"{kind} from {least} to {most}"
        if self.besides is not None:
            text = f"{_number(self.besides)} or {text}"
        return f"{text} ({self.note})" if self.note else text


_OWN = "0 is the model's own"
# A single text has two special tokens and a pair up to four (RoBERTa), to which text must be added.
_LENGTH = Range(3, besides=0, note=f"tokens; {_OWN}")
_WEIGHT = Range(0, note="0 leaves the loss out")
_STEPS = "steps; 0 is once an epoch"

RANGES: Mapping[str, Range] = MappingProxyType(
    {
        "seed": Range(0, 2**32 - 1),
        "synthesize": Range(0, note="0 makes no queries"),
        "dev_share": Range(0, 0.5),
        "dev_depth": Range(1),
        "layers": Range(0, note="0 keeps all"),
        "scale": Range(0, note=_OWN),
        "query_length": _LENGTH,
        "passage_length": _LENGTH,
        "pair_length": _LENGTH._replace(least=6),
        "dropout": Range(0, 1, below=True, besides=-1, note="-1 is the model's own"),
        "depth": Range(1),
        "negatives": Range(1),
        "bm25": Range(0, note="0 leaves BM25 out"),
        "low": Range(0, 1),
        "high": Range(0, 1),
        "epochs": Range(0, note="0 skips the stage"),
        "lists_per_step": Range(1),
        "list_length": Range(2, note="one positive and the negatives"),
        "learning_rate": Range(0, 1, above=True),
        "reranker_learning_rate": Range(0, 1, note="0 is as learning_rate"),
        "warmup": Range(0, 1, below=True, note="share of the steps"),
        "weight_decay": Range(0),
        "clip": Range(0, note="0 clips nothing"),
        "supervised": _WEIGHT,
        "distillation": _WEIGHT,
        "contrastive": _WEIGHT,
        "partial_ranking": _WEIGHT,
        "hardest": Range(1),
        "margin": Range(0),
        "accumulate": Range(1),
        "tokens_per_chunk": Range(1),
        "ema": Range(0, 1, below=True, note="0 keeps no average"),
        "validate_every": Range(0, note=_STEPS),
        "patience": Range(0, note="validations; 0 never stops early"),
        "checkpoint_every": Range(0, note="steps; 0 is with each validation"),
        "keep": Range(1),
    }
)
"""The range of every number in a recipe, by the name of its key in whatever section."""

_NEVER_BLANK = frozenset({"name", "retriever", "select_by"})


class Key(NamedTuple):
    """A key of a recipe: its name within its section, its type and its default."""

    name: str
    kind: object
    default: object


def unmet_expectation(key: Key, value: object) -> str | None:
    """What a key's value should have been, in words; ``None`` where it is that."""
    if key.kind is bool:
        return None if isinstance(value, bool) else "true or false"
    if key.kind in (int, float):
        return _unmet_number(key, value)
    if get_origin(key.kind) is Literal:
        choices = get_args(key.kind)
        quoted = [toml_value(choice) for choice in choices]
        return None if value in choices else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
    if choices := _choices_of_each(key):
        several = value if isinstance(value, list) else [value]
        good = several and all(one in choices for one in several)
        return None if good else f"a list of some of {', '.join(map(toml_value, choices))}"
    if key.kind is not str and not isinstance(value, str):
        good = isinstance(value, list) and all(_is_text(one) and one.strip() for one in value)
        return None if good else "a list of file names in quotes"
    if not _is_text(value):
        return "text in UTF-8" if isinstance(value, str) else "text in quotes"
    blank = key.name in _NEVER_BLANK and not str(value).strip()
    return "text that is not empty" if blank else None


def _choices_of_each(key: Key) -> tuple[str, ...]:
    """What each value of a list may be, () where that is anything."""
    of = get_args(key.kind)[0] if get_origin(key.kind) is tuple else str
    return get_args(of) if get_origin(of) is Literal else ()


def _unmet_number(key: Key, value: object) -> str | None:
    allowed = RANGES[key.name]
    if key.kind is int:
        good = isinstance(value, int) and not isinstance(value, bool) and value <= _WHOLE_MOST
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool)
    if good and isinstance(value, int | float) and allowed.holds(value):
        return None
    return allowed.words("a whole number" if key.kind is int else "a number")


def _is_text(value: object) -> bool:
    """A string that can be written as UTF-8: an argument of other bytes has lone surrogates."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def normalised(key: Key, value: object) -> object:
    """A value that meets the expectation, in the type of its field."""
    if key.kind is float and isinstance(value, int | float):
        return float(value) + 0.0  # -0.0 becomes 0.0: one recipe, one fingerprint
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and key.kind is not str and get_origin(key.kind) is tuple:
        return (value,) if value.strip() else ()
    return value


def parse_override(key: Key, text: str) -> object:
    """The value of ``--set key=text``: TOML, or the text as it stands where it is none.

    Text for a key that holds text needs no quotes, even where it looks like a number.
    """
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = document["value"] if len(document) == 1 else text
    holds_text = key.kind is str or get_origin(key.kind) is tuple
    return text if holds_text and not isinstance(value, str | list) else value


def toml_value(value: object) -> str:
    """A value of a recipe as it is written in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but TOML wants one more character escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    if isinstance(value, dict):
        pairs = (f"{toml_value(name)} = {toml_value(one)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, int) and abs(value) > _WHOLE_MOST:
        return hex(value)  # TOML has it too, and Python refuses to write thousands of digits
    return repr(value) if isinstance(value, int | float) else str(value)


def shown(value: object) -> str:
    """A value as it stands in the file, cut so that a sentence stays a sentence."""
    if isinstance(value, int) and abs(value) > _WHOLE_MOST:
        return "a whole number of more than 64 bits"
    return printable(toml_value(value))


def printable(text: str) -> str:
    """A text cut to fit a sentence, with bytes that are no UTF-8 as escapes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``; ``None`` where none is near."""
    found = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1)
    return found[0] if found else None


def unknown_key(key: str, keys: Mapping[str, Key]) -> str:
    """What is wrong with a dotted key that is none of ``keys``, with the one that was meant."""
    sections = list(dict.fromkeys(one.rpartition(".")[0] for one in keys if "." in one))
    problem = f'unknown key "{printable(key)}"'
    if key in sections:
        inside = siblings(key, keys)[0]
        return f'{problem}: {key} is a section, expected a key in it such as "{inside}"'
    section, dot, name = key.rpartition(".")
    if dot and section not in sections:
        near = closest(section, sections)
        meant = f': write "{near}.{name}"' if near else ""
        return f"{problem}, expected one of the sections {', '.join(sections)}{meant}"
    inside_section = siblings(section, keys)
    likely = closest(name, [keys[one].name for one in inside_section])
    if likely:
        return f'{problem}: write "{section}{dot}{likely}"'
    likely = closest(name, [one.name for one in keys.values()])
    elsewhere = [f'"{one}"' for one in keys if keys[one].name == likely]
    if elsewhere:
        return f"{problem}: write {' or '.join(elsewhere)}"
    if dot:
        names = ", ".join(keys[one].name for one in inside_section)
        return f"{problem}, expected one of the keys of [{section}]: {names}"
    return f"{problem}, expected one of {', '.join([*inside_section, *sections])}"


def siblings(section: str, keys: Iterable[str]) -> list[str]:
    """The dotted keys of a section; of "" those at the top."""
    return [key for key in keys if key.rpartition(".")[0] == section]


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
