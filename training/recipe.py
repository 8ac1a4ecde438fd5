"""Recipes: all that a training run is told, in a small TOML file of which every value is checked.

``name`` and ``seed`` stand at the top, everything else in the sections ``[data]``, ``[models]``,
``[mining]`` and one for each stage: ``[retriever]`` and ``[reranker]`` warm one model up alone,
``[joint]`` trains both. What is left out has its default.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, RocketRankError, UsageError
from .recipe_values import (
    STAGE_DEFAULTS,
    STAGES,
    WEIGHTS,
    DataSection,
    Key,
    MiningSection,
    ModelsSection,
    Stage,
    StageName,
    closest,
    normalised,
    parse_override,
    printable,
    shown,
    siblings,
    toml_value,
    unknown_key,
    unmet_expectation,
)

__all__ = [
    "STAGES",
    "STAGE_DEFAULTS",
    "WEIGHTS",
    "DataSection",
    "MiningSection",
    "ModelsSection",
    "Recipe",
    "Stage",
    "StageName",
    "bundled_recipes",
    "differences",
    "read_recipe",
    "recipe_fingerprint",
    "recipe_toml",
]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe. Two are equal that train alike under one name, wherever they were read."""

    name: str
    path: Path = field(compare=False)
    seed: int = 42
    data: DataSection
    models: ModelsSection
    mining: MiningSection
    retriever: Stage
    reranker: Stage
    joint: Stage


_SECTIONS: Mapping[str, type[Any]] = {
    "data": DataSection,
    "models": ModelsSection,
    "mining": MiningSection,
    **dict.fromkeys(STAGES, Stage),
}


def _all_keys() -> Iterator[tuple[str, Key]]:
    yield "name", Key("name", str, "")
    yield "seed", Key("seed", int, Recipe.seed)
    for section, kind in _SECTIONS.items():
        special = STAGE_DEFAULTS.get(section, {})
        for one in fields(kind):
            default = special.get(one.name, one.default)
            yield f"{section}.{one.name}", Key(one.name, one.type, default)


_KEYS: Mapping[str, Key] = dict(_all_keys())


class _Given(NamedTuple):
    """What was written and where: values by dotted key, and the text of every ``--set``."""

    path: Path
    values: dict[str, object]
    overrides: Mapping[str, str]

    def error(self, problem: str, *keys: str) -> RocketRankError:
        """An error at the ``--set`` of the first of ``keys`` that has one, else at the file."""
        for key in keys:
            if key in self.overrides:
                typed = printable(f"{key}={self.overrides[key]}")
                return UsageError(f"--set {typed}: {problem}")
        return DataError(f"{self.path}: {problem}")


def bundled_recipes() -> list[str]:
    """The names of the recipes that come with the package, sorted."""
    return sorted(path.stem for path in _bundled_folder().glob("*.toml"))


def _bundled_folder() -> Path:
    return Path(__file__).with_name("recipes")


def read_recipe(name_or_path: str | Path, overrides: Mapping[str, str] = {}) -> Recipe:
    """The recipe of a bundled name or in a file, with ``overrides`` (dotted key → TOML value).

    A bundled name always means the bundled recipe; a file of that name is ``./name``. Raises
    UsageError for a file that cannot be opened and for an override that cannot be used, DataError
    for a value in the file.
    """
    path = _find(str(name_or_path))
    given = _Given(path, {}, overrides)
    given.values.update(_flattened(_parse(path), given))
    for key, text in overrides.items():
        if key not in _KEYS:
            raise given.error(unknown_key(key, _KEYS), key)
        given.values[key] = parse_override(_KEYS[key], text)
    values = {key: _checked(key, given) for key in _KEYS}
    if not values["name"]:
        values["name"] = path.stem
    recipe = _assemble(path, values)
    _check_together(recipe, given)
    return recipe


def _find(name: str) -> Path:
    if name in bundled_recipes():
        return _bundled_folder() / f"{name}.toml"
    path = Path(name)
    if name and path.is_dir():
        raise UsageError(f"{name} is a folder, but a recipe is a TOML file: name a file in it")
    if name and path.exists():
        return path
    near = closest(path.stem, bundled_recipes())
    meant = f" (did you mean {near}?)" if near else ""
    raise UsageError(
        f'no recipe "{name}": there is no such file, and the bundled recipes are '
        f"{', '.join(bundled_recipes())}{meant}"
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}:{line}: expected UTF-8, found the byte 0x{error.object[error.start]:02x}: "
            "save the recipe as UTF-8"
        ) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        at = re.search(r" \(at line (\d+), column \d+\)\Z", str(error))
        place = f"{path}:{at[1]}" if at else str(path)
        problem = str(error)[: at.start()] if at else str(error)
        raise DataError(
            f"{place}: expected TOML (key = value, text in quotes), found an error: {problem}"
        ) from None


def _flattened(document: Mapping[str, Any], given: _Given) -> dict[str, object]:
    """The values by dotted key; sections and keys that do not exist are refused."""
    values: dict[str, object] = {}
    for name, value in document.items():
        if name in _SECTIONS:
            if not isinstance(value, dict):
                raise given.error(
                    f"{name} is {shown(value)}, expected a section: write [{name}] on a line of "
                    "its own and its keys below"
                )
            values |= {f"{name}.{key}": one for key, one in value.items()}
        elif isinstance(value, dict) and name not in _KEYS:
            near = closest(name, _SECTIONS)
            known = ", ".join(f"[{section}]" for section in _SECTIONS)
            cure = f"write [{near}]" if near else f"expected one of {known}"
            raise given.error(f"unknown section [{name}]: {cure}")
        elif "." in name:
            raise given.error(
                f'unknown key "{name}" in quotes: write its section and the key without quotes'
            )
        else:
            values[name] = value
    for key in values:
        if key not in _KEYS:
            raise given.error(unknown_key(key, _KEYS))
    return values


def _checked(key: str, given: _Given) -> object:
    """The value of a key, or its default."""
    known = _KEYS[key]
    if key not in given.values:
        return known.default
    value = given.values[key]
    expected = unmet_expectation(known, value)
    if expected is None:
        return normalised(known, value)
    section, _, name = key.rpartition(".")
    bare = toml_value(known.default).strip('"')
    if key in given.overrides:
        cure = f"--set {key}={bare}"
    else:
        place = f" in [{section}]" if section else ""
        cure = f"{name} = {toml_value(known.default)}{place}"
    if isinstance(known.default, str | tuple) and not known.default:
        advice = "correct it or leave it out"
    else:
        advice = f"write {cure}, its default, or another such value"
    raise given.error(f"{key} is {shown(value)}, expected {expected}: {advice}", key)


def _assemble(path: Path, values: Mapping[str, Any]) -> Recipe:
    sections = {
        section: kind(**{_KEYS[key].name: values[key] for key in siblings(section, _KEYS)})
        for section, kind in _SECTIONS.items()
    }
    return Recipe(name=values["name"], path=path, seed=values["seed"], **sections)


def _check_together(recipe: Recipe, given: _Given) -> None:
    """Raise for values that are good by themselves and make no sense beside one another."""
    data, mining = recipe.data, recipe.mining
    for key in ("data.queries", "data.qrels", "data.candidates"):
        if data.synthesize and _value(recipe, key):
            problem = "but queries are either given or made from the corpus: leave one of both out"
            raise _clash(recipe, given, problem, "data.synthesize", key)
    _check_endpoint(recipe, given)
    for part in ("dev", "test"):
        queries, qrels = f"data.{part}_queries", f"data.{part}_qrels"
        if bool(_value(recipe, queries)) != bool(_value(recipe, qrels)):
            problem = "but queries are of use with their judgements only: write both or neither"
            raise _clash(recipe, given, problem, queries, qrels)
    if data.test_run and not data.test_queries:
        problem = "but a run needs its queries: name them and their judgements (data.test_qrels)"
        raise _clash(recipe, given, problem, "data.test_run", "data.test_queries")
    if mining.low >= mining.high:
        problem = (
            "expected low below high: a candidate below low is a negative, one above high a "
            "positive"
        )
        raise _clash(recipe, given, problem, "mining.low", "mining.high")
    if not data.candidates and mining.negatives > mining.depth + mining.bm25:
        problem = (
            f"but only {mining.depth + mining.bm25} candidates would be mined for a query: mine "
            "deeper or keep fewer"
        )
        raise _clash(recipe, given, problem, "mining.negatives", "mining.depth", "mining.bm25")
    for name in STAGES:
        if _stage(recipe, name).epochs > 0:
            _check_losses(recipe, name, given)
            _check_frozen(recipe, name, given)
            _check_stage(recipe, name, given)


def _check_endpoint(recipe: Recipe, given: _Given) -> None:
    """What writes queries needs a number of them and a name of a model, and these need it."""
    data = recipe.data
    if data.endpoint and not data.synthesize:
        problem = "but no queries are made from the corpus: say how many with data.synthesize"
        raise _clash(recipe, given, problem, "data.endpoint", "data.synthesize")
    if data.endpoint and not data.endpoint_model:
        problem = "so that nobody writes: name a model that is served there"
        raise _clash(recipe, given, problem, "data.endpoint", "data.endpoint_model")
    asking = "data.synthesize_kinds" if "endpoint" in data.synthesize_kinds else ""
    for key in ("data.endpoint_model", "data.endpoint_prompt", asking):
        if key and _value(recipe, key) and not data.endpoint:
            problem = "but there is no address to ask: name one, such as http://localhost:8000/v1"
            raise _clash(recipe, given, problem, key, "data.endpoint")


def _check_losses(recipe: Recipe, name: StageName, given: _Given) -> None:
    """Every weight must belong to the stage, and one of them must be above 0."""
    alone = {"retriever": ("contrastive",), "reranker": ("supervised",)}
    own = alone.get(name, WEIGHTS)
    weights = {key: getattr(_stage(recipe, name), key) for key in WEIGHTS}
    for key, weight in weights.items():
        if weight and key not in own:
            problem = (
                f"but this stage trains the {name} alone, whose only loss is {own[0]}: write 0, "
                "or weigh that loss in [joint]"
            )
            raise _clash(recipe, given, problem, f"{name}.{key}")
    if not any(weights.values()):
        problem = (
            f"so nothing would be learnt: write {' or '.join(own)} = 1.0, or epochs = 0 to skip "
            "the stage"
        )
        raise _clash(recipe, given, problem, *(f"{name}.{key}" for key in own))


def _check_frozen(recipe: Recipe, name: StageName, given: _Given) -> None:
    """A frozen re-ranker is a fixed teacher: it needs a retriever beside it and learns nothing."""
    stage = _stage(recipe, name)
    if not stage.freeze_reranker:
        return
    frozen = f"{name}.freeze_reranker"
    if name != "joint":
        problem = "but only [joint] trains beside a re-ranker that can stand still: leave it out"
        raise _clash(recipe, given, problem, frozen)
    for key in ("supervised", "reranker_learning_rate"):
        if getattr(stage, key):
            problem = (
                f"but {key} has a meaning only for a re-ranker that learns: write {key} = 0, or "
                "do not freeze it"
            )
            raise _clash(recipe, given, problem, frozen, f"{name}.{key}")


def _check_stage(recipe: Recipe, name: StageName, given: _Given) -> None:
    stage, data = _stage(recipe, name), recipe.data
    length, negatives = f"{name}.list_length", stage.list_length - 1
    if stage.lists_per_step % stage.accumulate:
        problem = "expected a step of equal parts: let accumulate divide lists_per_step"
        raise _clash(recipe, given, problem, f"{name}.accumulate", f"{name}.lists_per_step")
    if stage.partial_ranking > 0 and stage.hardest > negatives:
        problem = (
            f"but such a list has {negatives} negatives to choose the hardest from: write hardest "
            f"= {negatives} or less, or make the lists longer"
        )
        raise _clash(recipe, given, problem, f"{name}.hardest", length)
    if not data.candidates and negatives > recipe.mining.negatives:
        problem = (
            "so that no mined list would be that long: write mining.negatives = "
            f"{negatives} or more, or make the lists shorter"
        )
        raise _clash(recipe, given, problem, length, "mining.negatives")
    if stage.patience and not data.dev_queries and not data.dev_share:
        problem = "so that nothing tells when to stop: name dev queries, or hold out a share"
        keys = (f"{name}.patience", "data.dev_queries", "data.dev_share")
        raise _clash(recipe, given, problem, *keys)


def _clash(recipe: Recipe, given: _Given, problem: str, *keys: str) -> RocketRankError:
    """The error of values that do not go together: each of them, and what is the matter."""
    found = [
        f"{key} is {shown(_value(recipe, key))}{'' if key in given.values else ' by default'}"
        for key in keys
    ]
    return given.error(f"{' and '.join(found)}, {problem}", *keys)


def _stage(recipe: Recipe, name: StageName) -> Stage:
    return {"retriever": recipe.retriever, "reranker": recipe.reranker, "joint": recipe.joint}[name]


def _value(recipe: Recipe, key: str) -> Any:
    section, _, name = key.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, name)


def recipe_fingerprint(recipe: Recipe) -> str:
    """The SHA-256, in hex, of all that changes a training run: everything but name and path."""
    values = asdict(recipe)
    del values["name"], values["path"]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def recipe_toml(recipe: Recipe) -> str:
    """The complete recipe, defaults included; :func:`read_recipe` of it gives an equal one."""
    lines = [f"{key} = {toml_value(_value(recipe, key))}" for key in siblings("", _KEYS)]
    for section in _SECTIONS:
        lines += ["", f"[{section}]"]
        lines += [
            f"{_KEYS[key].name} = {toml_value(_value(recipe, key))}"
            for key in siblings(section, _KEYS)
        ]
    return "\n".join(lines) + "\n"


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Where two recipes train differently, such as ``joint.epochs: 2.0 / 3.0``; name aside."""
    pairs = ((key, _value(one, key), _value(other, key)) for key in _KEYS if key != "name")
    return [
        f"{key}: {toml_value(first)} / {toml_value(second)}"
        for key, first, second in pairs
        if first != second
    ]
