"""``rq verify`` and ``rq repair``: whether an index is as it was written, and mending it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError, RocketRankError, UsageError
from ..text_width import printable
from . import options
from .index_model import ModelOptions, check_model_options, open_encoder
from .show import in_words, size_in_words
from .store_shown import rq

if TYPE_CHECKING:
    from ..index import VerifyReport
    from ..retriever import DualEncoder


def verify(
    directory: options.IndexArgument,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", metavar="N", min=0, help="Passages to encode again; 0: none, as --no-model."
        ),
    ] = 100,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Encode nothing, and so need no model.")
    ] = False,
    model: options.MovedModel = None,
    json: options.Json = False,
    device: options.Device = "cpu",
    precision: options.IndexPrecision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Check an index.

    Every file is read and its checksum compared; counts, ids, texts and vectors must fit together;
    a sample of passages is encoded again and compared with the stored vectors. Nothing is changed.

    Exit code 1 if something is wrong. What can be mended: rq repair.
    """
    if no_model and model is not None:
        raise UsageError(f"give either --model ({model}) or --no-model, not both")
    chosen = ModelOptions(
        model=model, device=device, precision=precision, engine=engine, threads=threads
    )
    check_model_options(chosen)
    from ..index import verify_index

    encoder = None if no_model or not sample else _encoder(directory, chosen)
    report = verify_index(directory, encoder, sample=sample, progress=sys.stderr.isatty())
    if json:
        _print_json(directory, report)
    else:
        for line in _report(directory, report):
            print(line)
    if report.problems:
        raise typer.Exit(1)


def repair(
    directory: options.IndexArgument,
    drop_unfinished: Annotated[
        bool,
        typer.Option(
            "--drop-unfinished",
            help="Also remove what an interrupted rq index has encoded so far.",
        ),
    ] = False,
    model: options.MovedModel = None,
    wait: options.Wait = 0,
    device: options.Device = "cpu",
    precision: options.IndexPrecision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Mend a damaged index.

    Vector structures are made anew from the stored vectors, damaged vectors by encoding their texts
    again, and files that no commit needs are removed. Lost texts cannot be made again: what is left
    is said, with exit code 1.
    """
    chosen = ModelOptions(
        model=model, device=device, precision=precision, engine=engine, threads=threads
    )
    check_model_options(chosen)
    from ..index import repair_index

    report = repair_index(
        directory,
        lambda manifest: open_encoder(directory, manifest, chosen),
        threads=threads,
        wait=wait,
        drop_unfinished=drop_unfinished,
        progress=sys.stderr.isatty(),
    )
    for line in report.done:
        print(printable(line))
    if not (report.done or report.left):
        print("nothing to mend")
    for line in report.left:
        print(f"not mended: {printable(line)}")
    print(f"commit {report.commit} is in force")
    if report.left:
        raise typer.Exit(1)


def _encoder(directory: Path, chosen: ModelOptions) -> "DualEncoder | None":
    """None where the commit in force cannot be read, which is then what the check finds."""
    from ..index import committed_manifest

    try:
        manifest = committed_manifest(directory)
    except DataError:
        return None
    try:
        return open_encoder(directory, manifest, chosen)
    except UsageError:
        raise
    except RocketRankError as error:
        raise RocketRankError(f"{error}, or check all else with --no-model") from error


def _report(directory: Path, report: "VerifyReport") -> list[str]:
    deleted = f" and {report.deleted:,} deleted" if report.deleted else ""
    lines = [
        f"commit {report.commit}: {in_words(report.passages, 'passage')}{deleted}",
        f"{in_words(report.files, 'file')} of {size_in_words(report.bytes)} read and compared with "
        "their checksums",
        f"{in_words(report.sampled, 'passage')} encoded again and compared"
        if report.sampled
        else "no passage encoded again",
        *(f"note: {printable(note)}" for note in report.notes),
        *(f"problem: {printable(problem)}" for problem in report.problems),
    ]
    if report.problems:
        count = in_words(len(report.problems), "problem")
        return [*lines, "", f"{count} found. Mend what can be mended:  {rq('repair', directory)}"]
    return [*lines, "", "Nothing is wrong."]


def _print_json(directory: Path, report: "VerifyReport") -> None:
    import json

    facts = {"index": str(directory), "ok": not report.problems, **report._asdict()}
    print(json.dumps(facts, indent=2))
