"""The command ``rq``: one file a command, and every heavy import inside its function."""

import functools
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from .. import __version__
from ..environment import prepare_process
from ..errors import RocketRankError, UsageError
from .add import add, update
from .command_groups import GroupedCommands
from .commits import rollback, snapshot
from .compact import compact
from .convert import convert
from .delete import delete
from .demo import demo
from .doctor import doctor
from .encode import encode
from .evaluate import evaluate
from .export import export
from .index import index
from .info import info
from .lists import lists
from .mine import mine
from .plan import plan
from .quantize import quantize
from .search import search
from .train import train
from .verify import repair, verify

__all__ = ["main"]

FAILED, WRONG_USAGE, INTERRUPTED, READER_GONE = 1, 2, 130, 141

app = typer.Typer(
    name="rq",
    cls=GroupedCommands,
    help="RocketRank: index a corpus with a dense retriever, search it, re-rank what is found.",
    epilog="A first look: rq demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Typer has no public name for what its parser raises; its BadParameter derives from it.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[1]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rocketrank {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    pass


def _example(text: str) -> str:
    """An epilogue that the help formatter does not wrap (that is what the \\b asks for)."""
    lines = "\n".join(f"  {line}" for line in text.splitlines())
    return f"\b\nExample:\n{lines}"


class _Interrupted(Exception):
    """Ctrl-C; Typer would end the process in its own way, which changed between its releases."""


class _ReaderGone(Exception):
    """Whoever read our output has closed the pipe; Typer would call that a failure."""


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose interruption and broken pipe reach ``main``."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
            sys.stdout.flush()
        except KeyboardInterrupt as error:
            raise _Interrupted from error
        except BrokenPipeError as error:
            raise _ReaderGone from error

    return run


def _register(
    panel: str, command: Callable[..., None], example: str, name: str | None = None
) -> None:
    app.command(name, epilog=_example(example), rich_help_panel=panel)(_guarded(command))


_register(
    "Search",
    index,
    "rq index corpus.jsonl --model minilm --index corpus.index\n"
    "rq index notes --index notes.index\n"
    "rq index corpus.jsonl --vectors corpus.npy --model minilm --index corpus.index\n"
    "zcat passages.tsv.gz | rq index - --format msmarco --index passages.index",
)
_register(
    "Search",
    plan,
    "rq plan corpus.jsonl --model minilm\n"
    "rq plan passages.tsv.gz --memory 8GiB --disk 20GiB --vector-type int8",
)
_register(
    "Search",
    search,
    'rq search "who discovered penicillin" --index corpus.index --k 5\n'
    "rq search --index corpus.index --queries queries.tsv --output run.trec",
)
_register("Search", info, "rq info corpus.index")
_register(
    "Vectors in files",
    encode,
    "rq encode corpus.jsonl --model minilm --output corpus.vectors\n"
    "rq index corpus.jsonl --vectors corpus.vectors --index corpus.index\n"
    "rq encode --queries queries.tsv --model minilm --output queries.vectors",
)
_register(
    "Vectors in files",
    export,
    "rq export corpus.index --to pyserini --output corpus.faiss\n"
    "rq export corpus.index --to npy --output corpus.arrays --texts",
)
_register("Change an index", add, "rq add more.jsonl --index corpus.index")
_register(
    "Change an index",
    update,
    "rq update corrected.jsonl --index corpus.index\n"
    "rq update all.jsonl --insert --index corpus.index",
)
_register(
    "Change an index",
    delete,
    "rq delete 17 18 --index corpus.index\n"
    "rq delete --ids old.txt --index corpus.index\n"
    "rq delete --index corpus.index -- -17",
)
_register(
    "Change an index",
    compact,
    "rq compact corpus.index\nrq compact corpus.index --kind hnsw",
)
_register(
    "Check an index, go back",
    snapshot,
    "rq snapshot corpus.index\n"
    "rq snapshot corpus.index before-cleanup\n"
    "rq snapshot corpus.index --drop before-cleanup",
)
_register(
    "Check an index, go back",
    rollback,
    "rq rollback corpus.index 4\nrq rollback corpus.index before-cleanup",
)
_register(
    "Check an index, go back",
    verify,
    "rq verify corpus.index\nrq verify corpus.index --no-model",
)
_register("Check an index, go back", repair, "rq repair corpus.index")
_register(
    "Train",
    lists,
    "rq lists triples.train.small.tsv.gz --output lists.jsonl\n"
    "rq lists candidates.tsv --queries queries.tsv --output lists.jsonl",
)
_register(
    "Train",
    mine,
    "rq mine --index corpus.index --queries queries.jsonl --qrels train.tsv --output lists.jsonl",
)
_register(
    "Train",
    train,
    "rq train scifact-cpu --lists lists.jsonl --passages corpus.index --output run\n"
    "rq train --pipeline scifact-cpu --data SCIFACT --output run",
)
_register(
    "Evaluate",
    evaluate,
    "rq eval bm25.trec dense.trec --qrels qrels.txt --preset dl --baseline bm25.trec\n"
    "rq eval --index corpus.index --queries queries.tsv --qrels qrels.txt",
    name="eval",
)
_register(
    "Set up",
    convert,
    "rq convert ernie-checkpoint my-retriever --role dual-encoder\n"
    "rq index corpus.tsv --model my-retriever --index corpus.index",
)
_register(
    "Set up",
    quantize,
    "rq quantize minilm corpus.jsonl --output minilm-int8\n"
    "rq index corpus.jsonl --model minilm-int8 --index corpus.index",
)
_register("Set up", doctor, "rq doctor\nrq doctor --json")
_register("Set up", demo, "rq demo")


class _NoteHandler(logging.Handler):
    """The library's log records as ``note: …`` on standard error, clear of a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")
        text = f"note: {record.getMessage()}"
        if tqdm is not None:
            tqdm.tqdm.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr)


def _open_standard_streams() -> None:
    """Make closed standard streams empty ones, and unwritable characters no failure."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _prepare_process() -> None:
    """What a command may do at its start and a library may not: environment and log handlers."""
    _open_standard_streams()
    logger = logging.getLogger("rocketrank")
    if not any(isinstance(handler, _NoteHandler) for handler in logger.handlers):
        logger.addHandler(_NoteHandler())
    logger.setLevel(logging.INFO)
    # PaddleNLP gives the root logger a handler, to which others then tell how they do.
    logging.getLogger("faiss").setLevel(logging.WARNING)
    logging.getLogger("bm25s").propagate = False  # it sets its own level when it is imported
    logger.propagate = False
    prepare_process()


def _complain(sentence: str) -> None:
    print(f"rq: {sentence}", file=sys.stderr)


def _report_bug(error: BaseException, arguments: Sequence[str]) -> None:
    """One sentence, with the traceback in a file: it is for a report, not for the terminal."""
    import tempfile

    text = "".join(traceback.format_exception(error))
    where = "the traceback is above"
    if os.environ.get("RQ_DEBUG"):
        sys.stderr.write(text)
    else:
        try:
            with tempfile.NamedTemporaryFile(
                "w",
                prefix="rq-",
                suffix=".traceback",
                delete=False,
                encoding="utf-8",
                errors="backslashreplace",
            ) as file:
                file.write(f"rocketrank {__version__}: rq {shlex.join(arguments)}\n{text}")
            where = f"the traceback is in {file.name} (RQ_DEBUG=1 shows it here)"
        except OSError:  # no place to write it
            where = "RQ_DEBUG=1 shows the traceback"
    kind = type(error).__name__
    _complain(f"this is a bug in RocketRank, not in what you typed: {kind}: {error}; {where}")


def _explain_usage(error: Exception) -> None:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "rq"
    message = getattr(error, "format_message", lambda: str(error))()
    if message.startswith("Usage:"):  # no arguments at all: the help is the answer
        print(message, file=sys.stderr)
        return
    message = message.replace("Value error, ", "").rstrip(".")
    _complain(f"{message} (`{command} --help` lists the options)")


def _leave_quietly() -> None:
    """Whoever read our output has gone; Python would complain once more while flushing it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _output_fails() -> bool:
    """Whether standard output still cannot be written: unbuffered, it keeps nothing that flushing
    would try again, so an empty line is tried after the failure."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code. Errors become one sentence on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_process()
    try:
        code = app(args=given, prog_name="rq", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UsageError as error:
        _complain(str(error))
        return WRONG_USAGE
    except RocketRankError as error:
        _complain(str(error))
        return FAILED
    except (_Interrupted, KeyboardInterrupt, typer.Abort):
        print("\nrq: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (_ReaderGone, BrokenPipeError):
        _leave_quietly()
        return READER_GONE
    except _UsageProblem as error:
        _explain_usage(error)
        return WRONG_USAGE
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        if not place and _output_fails():
            place = ": standard output; make room, or send it elsewhere"
            _leave_quietly()
        _complain(f"{error.strerror or error}{place}")
        return FAILED
    except Exception as error:
        _report_bug(error, given)
        return FAILED
