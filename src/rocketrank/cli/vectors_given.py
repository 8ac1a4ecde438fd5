"""``rq index --vectors``: an index of vectors that are there already."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .show import in_words

if TYPE_CHECKING:
    from ..index import BuildOptions, BuildReport, Corpus, PassageEncoder
    from ..index.vector_files import VectorFiles

_TYPES = ("float32", "float16", "int8")


@dataclass(frozen=True, kw_only=True)
class Given:
    """The options of ``rq index`` that are about given vectors."""

    vectors: tuple[Path, ...]
    ids: Path | None
    trusted: bool


def check_given(given: Given, corpus: Sequence[str]) -> None:
    """UsageError for options that do not go together, before anything is opened."""
    for path in given.vectors:
        if str(path) in _TYPES and not path.exists():
            raise UsageError(
                f"--vectors ({path}) names files of vectors; how an index keeps its vectors is "
                f"--vector-type {path}"
            )
    if not given.vectors:
        for option, value in (("--ids", given.ids), ("--trust-vectors", given.trusted or None)):
            if value is not None:
                raise UsageError(f"{option} is for given vectors; name their files with --vectors")
        if not corpus:
            raise UsageError(
                "CORPUS is missing: name files of passages, or vectors that are there already "
                "with --vectors"
            )
    elif "-" in corpus:
        raise UsageError(
            "standard input (-) can be read only once, and with --vectors a corpus is read twice, "
            "first to see that each passage has its vector: write it to a file"
        )


def index_vectors(
    directory: Path,
    corpus: "Callable[[], Corpus] | None",
    encoder: "PassageEncoder",
    build: "BuildOptions",
    given: Given,
) -> "tuple[BuildReport, list[str]]":
    """Builds the index; what is to be said of the vectors. ``corpus`` is begun anew each time."""
    from ..index import build_index_of
    from ..index.given_vectors import GivenPassages, GivenVectors, existing_folder
    from ..index.vector_files import open_vectors

    files = open_vectors(given.vectors, ids=given.ids, copies=existing_folder(directory))
    source = GivenVectors(files, encoder)
    has_texts = corpus is not None or files.has_texts
    if build.bm25 and not has_texts:
        raise UsageError("--bm25 needs the words of passages; name the CORPUS of these vectors")
    _check(corpus, files, encoder, given)
    passages = corpus() if corpus else GivenPassages(files)
    build = replace(build, precision=_precision(files))
    report = build_index_of(directory, passages, source, build, progress=sys.stderr.isatty())
    lines = []
    if unused := len(files) - report.passages:
        lines.append(f"{in_words(unused, 'vector')} left out, with ids that no passage has")
    if not has_texts:
        lines.append(
            "the passages have no texts: searches answer with ids, and re-ranking needs texts"
        )
    return report, lines


def _check(
    corpus: "Callable[[], Corpus] | None",
    files: "VectorFiles",
    encoder: "PassageEncoder",
    given: Given,
) -> None:
    """Errors for passages without vectors and for vectors that another model made."""
    from ..index.given_vectors import GivenPassages, check_made_by, checked_sample

    compared = bool(files.unsigned) and not given.trusted
    if corpus is not None:
        reader = corpus()
        if reader.bytes_total is None:
            raise UsageError(
                "with --vectors a corpus is read twice, and one of these files is a pipe: write "
                "it to a file"
            )
        sample = checked_sample(reader, files)
    elif files.has_texts and compared:
        sample = checked_sample(GivenPassages(files), files)
    else:
        return
    if compared:
        check_made_by(encoder, files, sample)


def _precision(files: "VectorFiles") -> str:
    """How the model computed them, where all files say the same."""
    said = {note.precision for note in files.notes}
    return said.pop() if len(said) == 1 and not files.unsigned else ""
