"""What a training stage reads: checked before a model is loaded, what is quickly told first."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..durable import make_folder, sha256_of, write_durably
from ..errors import DataError, UsageError
from ..eval.measures import evaluate
from ..inference import choose_runtime
from ..models import open_model
from ..two_stage import PassageTexts
from .dev import held_out_queries, open_dev
from .examples import Examples
from .list_formats import open_lists
from .lists import read_header, read_lists, write_lists
from .mining import tokenizer_fingerprint
from .passages import open_passages
from .processes import Processes
from .recipe import Recipe, Stage, StageName
from .validation import DevSet

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a stage is told beside its recipe.

    ``lists`` and ``dev`` are in any format that ``list_formats`` reads; candidates without a text
    are looked up in ``passages``, an index or corpus files, and texts of queries in ``queries``.
    ``dev`` has the candidates of each dev query; without it the recipe's share of the queries in
    ``lists`` is held out. ``strict`` makes an error of lists that cannot be trained on.
    """

    recipe: Recipe
    stage: StageName
    lists: Path
    output: Path
    passages: tuple[Path, ...] = ()
    dev: Path | None = None
    dev_qrels: Path | None = None
    queries: Path | None = None
    device: str = "cpu"
    strict: bool = False
    any_tokenizer: bool = False
    progress: bool = False


class Data(NamedTuple):
    """What is trained and validated on."""

    examples: Examples
    texts: PassageTexts | None
    dev: DevSet | None


def check_options(options: TrainOptions, stage: Stage) -> None:
    """Refuse what can be told without reading a list or loading a model."""
    if not stage.epochs:
        raise UsageError(
            f"{options.stage}.epochs is 0, which skips this stage: --set {options.stage}.epochs=1, "
            "or name another --stage"
        )
    evaluate({}, {}, [stage.select_by])
    choose_runtime(device=options.device)
    files = {
        "--lists": options.lists,
        "--queries": options.queries,
        "--dev": options.dev,
        "--dev-qrels": options.dev_qrels,
    }
    for option, path in files.items():
        if path is not None and not path.is_file():
            raise UsageError(f"{option} {path} is no file: check the name")
    for path in options.passages:
        if str(path) != "-" and not path.exists():
            raise UsageError(f"--passages {path} is not there: name an index or corpus files")
    models = options.recipe.models
    if runs_retriever(stage) or not models.reranker:
        open_model(models.retriever, role="dual-encoder" if runs_retriever(stage) else None)
    if models.reranker and runs_reranker(stage):
        open_model(models.reranker)


def runs_retriever(stage: Stage) -> bool:
    return bool(stage.distillation or stage.contrastive or stage.partial_ranking)


def runs_reranker(stage: Stage) -> bool:
    return bool(stage.supervised or stage.distillation or stage.partial_ranking)


def own_format(path: Path, own: Path, options: TrainOptions, processes: Processes) -> Path:
    """The lists of ``path`` as a plain file in our format, which can be read at any line.

    That is ``own`` where they come in another one. Beside it stands what it was made of, so that a
    run that goes on does not make it again, and one on other lists does.
    """
    if _is_ours(path):
        return path
    if processes.rank == 0:
        note = own.with_suffix(".source")
        source = " ".join(sha256_of(each) for each in (path, options.queries) if each)
        if not own.exists() or not note.exists() or note.read_text() != source:
            make_folder(own.parent)
            note.unlink(missing_ok=True)
            opened = open_lists(path, queries=options.queries)
            header = read_header(path) if opened.format == "rocketrank" else None
            count = write_lists(own, opened.lists, header)
            write_durably(note, [source.encode()])
            _log.warning("%s: %d lists were written to %s in our own format", path, count, own)
    processes.wait()
    return own


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(1) != b"{":  # compressed, or no JSON lines
            return False
    try:
        next(read_lists(path), None)
    except DataError:
        return False
    return True


def open_data(options: TrainOptions, lists: Path, dev: Path | None) -> Data:
    """Read and check everything; ``lists`` and ``dev`` are in our own format."""
    recipe = options.recipe
    _check_tokenizer(options, lists)
    texts = _texts(options, lists, dev)
    held_out = held_out_queries(lists, recipe, dev)
    examples = Examples(lists, held_out=held_out)
    try:
        _check_examples(examples, options)
        found = open_dev(dev or lists, None if dev else held_out, options.dev_qrels, texts)
        if found is None:
            _explain_no_dev(options, dev or lists)
    except BaseException:
        examples.close()
        raise
    return Data(examples, texts, found)


def _explain_no_dev(options: TrainOptions, path: Path) -> None:
    if options.dev or options.dev_qrels:
        place = f" in {options.dev_qrels}" if options.dev_qrels else ""
        raise DataError(
            f"{path} has no dev query with a relevant passage{place}: give lists and judgements "
            "of the same queries"
        )
    if share := options.recipe.data.dev_share:
        _log.warning(
            "%s has too few queries to hold out a share of %g: nothing is validated, and the last "
            "step gives the models",
            path,
            share,
        )


def _check_tokenizer(options: TrainOptions, lists: Path) -> None:
    header = read_header(lists)
    if header is None or not header.tokenizer or options.any_tokenizer:
        return
    models = options.recipe.models
    name = (options.stage == "reranker" and models.reranker) or models.retriever
    found = tokenizer_fingerprint(open_model(name))
    if found != header.tokenizer:
        raise UsageError(
            f"{lists} was mined by {header.retriever or 'a model'} with the tokenizer "
            f"{header.tokenizer[:12]}, but {name} has the tokenizer {found[:12]}: mine again with "
            "this model, or train on these lists all the same with --any-tokenizer"
        )


def _check_examples(examples: Examples, options: TrainOptions) -> None:
    dropped = examples.dropped
    unusable = dropped.without_positive + dropped.without_negative
    reasons = (
        f"{dropped.without_positive} have no positive and {dropped.without_negative} "
        "no other candidate"
    )
    if not len(examples):
        raise DataError(
            f"{examples.path} has no list to train on: {reasons}, {dropped.held_out} are held out "
            "for validation; give lists with a positive and a negative"
        )
    if unusable and options.strict:
        raise DataError(
            f"{examples.path}: {unusable} lists cannot be trained on ({reasons}): remove them, or "
            "leave out --strict to drop them"
        )
    if unusable:
        _log.warning("%s: %d lists were dropped (%s)", examples.path, unusable, reasons)


def _texts(options: TrainOptions, lists: Path, dev: Path | None) -> PassageTexts | None:
    """Where candidates without a text are found; every one of them is looked up now."""
    wanted = set()
    for path in (lists, dev):
        for each in read_lists(path) if path else ():
            bare = [candidate.id for candidate in each.candidates if candidate.text is None]
            if bare and not options.passages:
                raise UsageError(
                    f'{path}: candidate "{bare[0]}" of query "{each.query_id}" has no text: say '
                    "with --passages which index or corpus holds it"
                )
            wanted.update(bare)
    return open_passages(options.passages, wanted) if wanted else None
