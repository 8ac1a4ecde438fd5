"""Pages of docs/ that a benchmark writes a part of, between two comments."""

from pathlib import Path

from rocketrank.durable import write_durably
from rocketrank.errors import UsageError

END = "<!-- end of what is written -->"


def beginning(script: str) -> str:
    """The line before the part that ``script`` writes."""
    return f"<!-- written by: python benchmarks/{script} table -->"


def write_page(page: Path, script: str, text: str) -> None:
    """Put ``text`` between the comments of ``page`` and leave everything else alone."""
    content = page.read_text(encoding="utf-8")
    before, begin, rest = content.partition(beginning(script))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(
            f'{page}: expected the lines "{beginning(script)}" and "{END}", between which the '
            "tables go: write them into the page"
        )
    write_durably(page, [f"{before}{begin}\n\n{text}\n\n{END}{after}".encode()])
