"""``rq plan``: what an index of a corpus will take here, and which kind to build."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..text_width import padded, printable, width_of
from . import chunks, options
from .index import field_names
from .show import in_words, size_in_words

if TYPE_CHECKING:
    from ..index.plan import KindPlan, Plan


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The options that ``rq index`` is to be given too."""

    corpus: list[str]
    model: str
    given: dict[str, Any]


def plan(
    corpus: options.Corpus,
    model: options.IndexedBy = "minilm",
    vector_type: options.VectorType = "float32",
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields", metavar="NAME,NAME…", help="Metadata to filter by, as for rq index."
        ),
    ] = None,
    chunk: chunks.Chunk = None,
    stride: chunks.Stride = None,
    bm25: Annotated[
        bool, typer.Option("--bm25", help="Plan postings too, to search by words.")
    ] = False,
    memory: Annotated[
        int | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            parser=options.memory_size,
            help="What building and searching may have in memory, such as 8GiB.",
            show_default="no bound",
        ),
    ] = None,
    disk: options.Disk = None,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", metavar="N", min=1, help="Passages to encode, drawn from the whole corpus."
        ),
    ] = 1024,
    json: options.Json = False,
    format: options.CorpusFormat = "auto",
    skip_empty: options.SkipEmpty = False,
    skip_duplicates: options.SkipDuplicates = False,
    shard_size: options.ShardSize = 4096,
    device: options.Device = "cpu",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Say what an index will take.

    Disk, memory, time and recall of each vector structure on this machine, and which to build.

    The corpus is read once and counted, a sample of it is encoded, and small structures are timed:
    about a minute, and the time of reading the corpus. Nothing is kept. Exit code 1 where nothing
    fits --memory and --disk.
    """
    from ..data.corpus import CorpusReader
    from ..inference import choose_runtime
    from ..models import open_model
    from ..retriever import DualEncoder

    options.refuse_empty("--model", model)
    columns = field_names(fields)
    runtime = choose_runtime(device=device, precision=precision, engine=engine, threads=threads)
    reader = CorpusReader(list(corpus), format=format, skip_empty=skip_empty)
    encoder = DualEncoder(open_model(model, role="dual-encoder"), runtime)

    chunking = chunks.chosen_chunking(reader, encoder, chunk, stride)

    from ..index import BuildOptions
    from ..index.plan import PlanOptions
    from ..index.planning import plan_index

    build = BuildOptions(
        shard_size=shard_size,
        skip_duplicates=skip_duplicates,
        threads=threads,
        precision=runtime.precision,
        vectors=vector_type,
        fields=chunks.with_document(columns, chunking),
        memory=memory,
        bm25=bm25,
        chunking=chunking,
    )
    planned = PlanOptions(build=build, disk=disk, sample=sample)
    cut = chunks.cut(reader, encoder, chunking)
    found = plan_index(cut, encoder, planned, progress=sys.stderr.isatty())
    asked = _Asked(
        corpus=list(corpus),
        model=model,
        given={
            "--vector-type": None if vector_type == "float32" else vector_type,
            "--fields": fields,
            "--chunk": chunk,
            "--stride": stride,
            "--bm25": bm25,
            "--memory": None if memory is None else _as_given(memory),
            "--format": None if format == "auto" else format,
            "--skip-empty": skip_empty,
            "--skip-duplicates": skip_duplicates,
            "--shard-size": None if shard_size == 4096 else shard_size,
            "--device": None if device == "cpu" else device,
            "--precision": None if precision == "auto" else precision,
            "--engine": None if engine == "auto" else engine,
            "--threads": threads,
        },
    )
    command = _command(found, asked)
    if json:
        _print_json(found, command)
    else:
        for line in _report(found, command):
            print(line)
    if found.chosen is None:
        raise typer.Exit(1)


def _as_given(size: int) -> str:
    """A size in the largest unit of 1024 that it is a whole number of."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def _command(plan: "Plan", asked: _Asked) -> str | None:
    """The command that builds what was chosen; ``auto`` is left to choose what it would."""
    if plan.chosen is None:
        return None
    name = Path(asked.corpus[0]).name.split(".")[0] if asked.corpus[0] != "-" else ""
    words = ["rq", "index", *asked.corpus, "--model", asked.model]
    words += ["--index", f"{name or 'corpus'}.index"]
    if plan.chosen != plan.auto:
        words += ["--kind", plan.chosen]
    for option, value in asked.given.items():
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, str(value)]
    return shlex.join(words)


def _report(plan: "Plan", command: str | None) -> list[str]:
    fast, slow = plan.encode_seconds_range
    skipped = [
        (plan.skipped_empty, "without title and text left out"),
        (plan.skipped_duplicates, "left out because their ids had come before"),
    ]
    lines = [
        f"{in_words(plan.passages, 'passage')}, {size_in_words(plan.content_bytes)} of text; "
        f"{plan.sample:,} of them encoded for this plan",
        *(f"{in_words(count, 'passage')} {what}" for count, what in skipped if count),
        f"encoding all: {_duration(plan.encode_seconds)} ({_duration(fast)} to {_duration(slow)}), "
        f"{_rate(plan.passages_a_second)} a second",
        "",
        *_table(plan),
        "",
        "memory and time are those of building, search the memory to search quickly,",
        "query one search for 100 passages, roughly",
        *_recall_note(plan),
        *(f"{each.kind}: {printable(each.problem)}" for each in plan.kinds if each.problem),
        *(f"{each.kind}: in {each.parts} parts" for each in plan.kinds if each.parts > 1),
        "",
        plan.reason,
    ]
    return [*lines, "", f"Build it:  {command}"] if command else lines


def _table(plan: "Plan") -> list[str]:
    """A line a kind; the one to build has a star."""
    rows: list[tuple[str, ...]] = [
        ("", "kind", "disk", "structure", "memory", "time", "search", "query", "recall")
    ]
    rows += [("*" if each.kind == plan.chosen else "", *_cells(each)) for each in plan.kinds]
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            padded(cell, width, right=number > 1)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(each: "KindPlan") -> tuple[str, ...]:
    if each.disk is None or each.memory is None:
        return (each.kind, *["-"] * 7)
    return (
        each.kind,
        size_in_words(each.disk.total),
        size_in_words(each.disk.structure),
        size_in_words(each.memory.building),
        _duration(each.structure_seconds or 0.0),
        size_in_words(each.memory.searching),
        _duration(each.query_seconds or 0.0),
        _recall(each),
    )


def _recall(each: "KindPlan") -> str:
    if each.recall is None:
        return "unknown"
    return "all" if each.recall.exact else f"~{each.recall.share:.2f}"


def _recall_note(plan: "Plan") -> list[str]:
    measured = [each.recall for each in plan.kinds if each.recall and not each.recall.exact]
    if not measured:
        return []
    nearest = "nearest" if measured[0].k == 1 else f"{measured[0].k} nearest"
    return [
        f"recall: about; measured among the {measured[0].sample:,} passages of the sample, for the",
        f"{nearest} of each and as large a share of the lists as a search will visit",
    ]


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{1000 * seconds:.1f} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _print_json(plan: "Plan", command: str | None) -> None:
    import json
    from dataclasses import asdict

    facts = asdict(plan)
    for shown, each in zip(facts["kinds"], plan.kinds, strict=True):
        for name in ("disk", "memory", "recall"):
            value = getattr(each, name)
            shown[name] = value._asdict() if value is not None else None
    print(json.dumps({**facts, "command": command}, indent=2))
