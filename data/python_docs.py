"""The documentation of the Python that runs this, as a corpus that needs no download.

Two sources: the language reference that ``help()`` shows (``pydoc_data.topics``), and the standard
library's docstrings. Those are read from the source files without importing them; of the modules
written in C a fixed list is imported, none of which does anything on import.
"""

import ast
import importlib
import inspect
import itertools
import os
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data import topics
from types import ModuleType
from typing import NamedTuple

from .prose import passages_of, without_markup, word_count
from .records import Passage

FEWEST_WORDS = 6

_LEFT_OUT = {
    "__phello__", "antigravity", "distutils", "encodings", "ensurepip", "idlelib", "lib2to3",
    "ntpath", "nturl2path", "pydoc_data", "site-packages", "dist-packages", "test", "tests",
    "this", "tix", "turtledemo",
}  # fmt: skip
# Where the documentation names things otherwise than the file or the C module.
_PUBLIC_NAMES = {
    "_collections": "collections", "_collections_abc": "collections.abc", "_csv": "csv",
    "_contextvars": "contextvars", "_decimal": "decimal", "_functools": "functools", "_io": "io",
    "_operator": "operator", "_pickle": "pickle", "_queue": "queue", "_random": "random",
    "_signal": "signal", "_socket": "socket", "_sqlite3": "sqlite3", "_struct": "struct",
    "_thread": "threading", "_weakref": "weakref", "_weakrefset": "weakref",
    "builtins": "", "genericpath": "os.path", "posix": "os", "posixpath": "os.path",
}  # fmt: skip
_C_MODULES = (
    "builtins", "_collections", "_contextvars", "_csv", "_decimal", "_functools", "_io",
    "_operator", "_pickle", "_queue", "_random", "_signal", "_socket", "_sqlite3", "_struct",
    "_thread", "_weakref", "array", "atexit", "audioop", "binascii", "cmath", "errno",
    "faulthandler", "fcntl", "gc", "grp", "itertools", "marshal", "math", "mmap", "posix", "pwd",
    "pyexpat", "resource", "select", "sys", "syslog", "termios", "time", "unicodedata", "zlib",
)  # fmt: skip
_HEADING = re.compile(r"^(\S.*)\n(?:\*{4,}|={4,}|-{4,})$", re.MULTILINE)


class _Docstring(NamedTuple):
    name: str
    kind: str
    text: str


def python_documentation() -> Iterator[Passage]:
    """Passages on the language (ids ``topic/with#2``) and the library (ids ``lib/json.dumps``).

    The same passages in the same order each time for the same Python; texts are distinct and have
    at least six words, long ones are split into passages of about 80 to 220 words. Metadata:
    ``kind`` is "topic", "module", "class", "function" or "method".
    """
    texts: set[str] = set()
    ids: set[str] = set()
    for passage in itertools.chain(_topic_passages(), _library_passages()):
        if (
            word_count(passage.text) >= FEWEST_WORDS
            and passage.text not in texts
            and passage.id not in ids
        ):
            texts.add(passage.text)
            ids.add(passage.id)
            yield passage


def _topic_passages() -> Iterator[Passage]:
    # Chapters repeat what smaller topics say; the smaller ones come first and keep it.
    for name, text in sorted(topics.topics.items(), key=lambda topic: (len(topic[1]), topic[0])):
        # The text before the first heading, then heading and text by turns.
        before, *sections = _HEADING.split(text)
        headings = [without_markup(heading.replace('"', "")) for heading in sections[::2]]
        topic = headings[0] if headings else name
        numbers = itertools.count(1)
        for heading, body in zip([topic, *headings], [before, *sections[1::2]], strict=True):
            title = topic if heading == topic else f"{topic}: {heading}"
            for passage in passages_of(body):
                number = next(numbers)
                passage_id = f"topic/{name}" if number == 1 else f"topic/{name}#{number}"
                yield Passage(passage_id, passage, title, {"kind": "topic"})


def _library_passages() -> Iterator[Passage]:
    docstrings = itertools.chain(_source_docstrings(), _c_docstrings())
    for name, kind, text in docstrings:
        for number, passage in enumerate(passages_of(inspect.cleandoc(text)), 1):
            passage_id = f"lib/{name}" if number == 1 else f"lib/{name}#{number}"
            yield Passage(passage_id, passage, name, {"kind": kind})


def _source_docstrings() -> Iterator[_Docstring]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in _source_files(root):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        name = _PUBLIC_NAMES.get(".".join(parts), ".".join(parts))
        if name and _is_public(name):
            yield from _docstrings_of(name, _parsed(path))


def _source_files(root: Path) -> Iterator[Path]:
    """Python files in a fixed order, without walking through what is left out."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        for file in sorted(files):
            if file.endswith(".py") and file.removesuffix(".py") not in _LEFT_OUT:
                yield Path(folder, file)


def _is_public(name: str) -> bool:
    return all(part.isidentifier() and not part.startswith("_") for part in name.split("."))


def _parsed(path: Path) -> ast.Module:
    """The file's syntax tree, an empty one when the file is no Python of this version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            return ast.Module(body=[], type_ignores=[])


def _docstrings_of(
    name: str, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[_Docstring]:
    """The docstring of a module or class, and those of the public names in it."""
    kind = "module" if isinstance(node, ast.Module) else "class"
    if text := ast.get_docstring(node):
        yield _Docstring(name, kind, text)
    for child in _definitions(node.body):
        if child.name.startswith("_"):
            continue
        full_name = f"{name}.{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from _docstrings_of(full_name, child)
        elif text := ast.get_docstring(child):
            yield _Docstring(full_name, "function" if kind == "module" else "method", text)


def _definitions(
    body: Iterable[ast.stmt],
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes and functions, those under ``if`` and ``try`` too."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement
        elif isinstance(statement, ast.If):
            yield from _definitions([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            handlers = [line for handler in statement.handlers for line in handler.body]
            yield from _definitions([*statement.body, *handlers, *statement.orelse])


def _c_docstrings() -> Iterator[_Docstring]:
    for name in _C_MODULES:
        module = _imported(name)
        if module is not None:
            yield from _live_docstrings(_PUBLIC_NAMES.get(name, name), module)


def _imported(name: str) -> ModuleType | None:
    """The module, None where this Python is built without it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def _live_docstrings(name: str, owner: ModuleType | type) -> Iterator[_Docstring]:
    """The docstrings of an imported module or class and of the public names in it."""
    is_module = isinstance(owner, ModuleType)
    if name and isinstance(owner.__doc__, str):
        yield _Docstring(name, "module" if is_module else "class", owner.__doc__)
    for key, value in sorted(vars(owner).items()):
        if key.startswith("_"):
            continue
        # sys.excepthook and the like may be replaced; the original is kept in sys.__excepthook__.
        value = vars(owner).get(f"__{key}__", value) if is_module else value
        full_name = f"{name}.{key}" if name else key
        if isinstance(value, type):
            yield from _live_docstrings(full_name, value) if is_module else ()
        elif inspect.isroutine(value) and isinstance(value.__doc__, str):
            yield _Docstring(full_name, "function" if is_module else "method", value.__doc__)
