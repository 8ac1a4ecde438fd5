"""``rq info``: what an index holds."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text_width import printable
from . import options
from .show import folder_size, in_words, size_in_words
from .store_shown import compacting_hint, local_time

if TYPE_CHECKING:
    from ..index import Manifest


def info(directory: options.IndexArgument, json: options.Json = False) -> None:
    """Say what an index holds.

    Passages, fields, the model that filled it, vector structures, sizes, the commit in force.
    """
    from ..index import Index

    with Index.open(directory) as index:
        facts = _facts(directory, index.manifest)
    if json:
        import json as json_module

        print(json_module.dumps({"index": str(directory), **facts}, indent=2))
    else:
        _print(directory, facts)


def _facts(directory: Path, manifest: "Manifest") -> dict[str, Any]:
    segments = manifest.segments
    sizes = {
        "passages": sum(segment.passages.bytes for segment in segments),
        "vectors": sum(file.bytes for segment in segments for file in segment.vectors),
        "structures": sum(file.bytes for segment in segments for file in segment.structure.files),
        "postings": sum(segment.postings.bytes for segment in segments if segment.postings),
        "deletions": sum(segment.live.bytes for segment in segments if segment.live),
    }
    return {
        "passages": manifest.count,
        "deleted": manifest.rows - manifest.count,
        "fields": list(manifest.fields),
        "width": manifest.width,
        "vectors": manifest.vectors,
        "model": manifest.model.name,
        "fingerprint": manifest.model.fingerprint,
        "precision": manifest.model.precision,
        "kind": manifest.kind,
        "bm25": manifest.bm25,
        "chunking": None if manifest.chunking is None else asdict(manifest.chunking),
        "segments": [
            {
                "number": segment.number,
                "passages": segment.count,
                "deleted": segment.rows - segment.count,
                "factory": segment.structure.factory,
                "reason": segment.structure.reason,
                "bytes": sum(file.bytes for file in segment.files()),
            }
            for segment in segments
        ],
        "bytes": sizes,
        "bytes_of_folder": folder_size(directory),
        "commit": manifest.commit,
        "change": manifest.change,
        "committed": manifest.created,
    }


def _print(directory: Path, facts: dict[str, Any]) -> None:
    parts = facts["bytes"]
    sizes = ", ".join(f"{name} {size_in_words(count)}" for name, count in parts.items() if count)
    precision = f", {facts['precision']}" if facts["precision"] else ""
    deleted = f" (and {facts['deleted']:,} deleted, still stored)" if facts["deleted"] else ""
    lines = {
        "passages": f"{facts['passages']:,}{deleted}",
        "fields": ", ".join(facts["fields"]) or "none to filter by",
        "model": f"{facts['model']} (fingerprint {facts['fingerprint'][:12]}{precision})",
        "width": f"{facts['width']} numbers a vector, stored as {facts['vectors']}",
        "structure": _structures(facts["segments"]),
        "words": "postings for BM25" if facts["bm25"] else "no postings for BM25",
        "documents": _documents(facts["chunking"]),
        "size": f"{size_in_words(sum(parts.values()))} ({sizes})",
        "folder": f"{size_in_words(facts['bytes_of_folder'])} with all commits that are kept",
        "commit": f"{facts['commit']} ({facts['change']}), {local_time(facts['committed'])}",
    }
    print(directory)
    for name, value in lines.items():
        print(f"  {name:<11}{printable(value)}")
    hint = compacting_hint(directory, facts["passages"], facts["deleted"], len(facts["segments"]))
    if hint:
        print(f"\n{hint}")


def _documents(chunking: dict[str, int] | None) -> str:
    if chunking is None:
        return "passages are as they were given"
    return f"cut into chunks of {chunking['limit']} tokens, one begun every {chunking['stride']}"


def _structures(segments: list[dict[str, Any]]) -> str:
    """The structure of the largest segment with its reason, and how many more there are."""
    if not segments:
        return "none, because there is no passage"
    largest = max(segments, key=lambda segment: int(segment["passages"]))
    more = len(segments) - 1
    others = f"; and {in_words(more, 'smaller segment')}" if more else ""
    return f"{largest['factory']}: {largest['reason']}{others}"
