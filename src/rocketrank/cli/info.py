"""``rq info``: what an index holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..text_width import printable
from . import options
from .show import size_in_words

if TYPE_CHECKING:
    from ..index import Manifest


def info(
    directory: Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.")],
    json: options.Json = False,
) -> None:
    """Say what an index holds.

    Passages, the model that filled it, the vector structure, sizes.
    """
    from ..index import Index

    with Index.open(directory) as index:
        facts = _facts(index.manifest)
    if json:
        import json as json_module

        print(json_module.dumps({"index": str(directory), **facts}, indent=2))
    else:
        _print(directory, facts)


def _facts(manifest: "Manifest") -> dict[str, Any]:
    segments = manifest.segments
    return {
        "passages": manifest.count,
        "width": manifest.width,
        "model": manifest.model.name,
        "fingerprint": manifest.model.fingerprint,
        "precision": manifest.model.precision,
        "kind": manifest.structure.kind,
        "factory": manifest.structure.factory,
        "reason": manifest.structure.reason,
        "bytes": {
            "passages": manifest.passages.bytes,
            "vectors": sum(file.bytes for segment in segments for file in segment.vectors),
            "faiss": sum(segment.faiss.bytes for segment in segments),
        },
        "built": manifest.created,
        "format_version": manifest.format_version,
    }


def _print(directory: Path, facts: dict[str, Any]) -> None:
    parts = facts["bytes"]
    sizes = ", ".join(f"{name} {size_in_words(count)}" for name, count in parts.items())
    precision = f", {facts['precision']}" if facts["precision"] else ""
    lines = {
        "passages": f"{facts['passages']:,}",
        "model": f"{facts['model']} (fingerprint {facts['fingerprint'][:12]}{precision})",
        "width": f"{facts['width']} numbers a vector",
        "structure": f"{facts['factory']}: {facts['reason']}",
        "size": f"{size_in_words(sum(parts.values()))} ({sizes})",
        "built": facts["built"],
    }
    print(directory)
    for name, value in lines.items():
        print(f"  {name:<11}{printable(value)}")
