"""Checking an index: that its files are as they were written, that they agree, and who made them.

Each problem is one sentence with the place, both values and the cure; a folder without any commit
that can be read is an error.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import combinations, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.lines import shown
from ..errors import DataError, UsageError
from .commits import (
    HeldCommit,
    begun,
    commit_file,
    commit_numbers,
    read_manifest,
    read_snapshots,
)
from .encoding import PassageEncoder
from .layout import (
    COMMITS,
    MANIFEST,
    SEGMENTS,
    SNAPSHOTS,
    SegmentFolder,
    segment_numbers,
    stray_files,
)
from .manifest import Manifest, NewerFormatError, read_manifest_file
from .progress import Progress
from .reader import committed_manifest
from .segment_checks import drawn_rows, segment_problems
from .segments import StoredSegment, size_problem
from .writing import check_encoder

SAME = 0.999
"""The least cosine of a passage encoded again; bf16 in place of fp32 moves it by less than that."""
_IDS_AT_ONCE = 10_000
_ATTEMPTS = 10


class VerifyReport(NamedTuple):
    """The ``commit`` that was checked, and what is wrong with the index: one sentence a problem.

    ``files`` and ``bytes`` were read, ``passages`` are in it without the ``deleted``, ``sampled``
    of them were encoded again. ``notes`` are worth knowing and no damage.
    """

    commit: int
    files: int
    bytes: int
    passages: int
    deleted: int
    sampled: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def verify_index(
    directory: Path,
    encoder: PassageEncoder | None = None,
    *,
    sample: int = 100,
    progress: bool = False,
) -> VerifyReport:
    """Reads the whole commit in force, and of the other kept commits the sizes of their files.

    With ``encoder``, ``sample`` passages (drawn the same each time) are encoded again; where the
    cosine to the stored vector is below 0.999 it was not this model or not this text. A writer may
    work meanwhile. Raises UsageError for another model than the index's, and DataError for a folder
    without any commit that can be read.
    """
    if sample < 0:
        raise UsageError(f"sample ({sample}) must be 0 or more")
    manifest, held, problems = _held(directory)
    with ExitStack() as stack:
        stack.callback(held.close)
        if encoder is not None:
            check_encoder(directory, manifest, encoder)
        whole = []
        bar = stack.enter_context(Progress("verifying", shown=progress, total=manifest.rows))
        for segment in manifest.segments:
            found = list(segment_problems(directory, manifest, segment, sample, bar))
            problems += found
            whole += [] if found else [segment]
        opened = [
            stack.enter_context(StoredSegment(directory, each, manifest.width, manifest.vectors))
            for each in whole
        ]
        problems += _double_ids(opened)
        sampled = 0
        if encoder is not None:
            drawn = min(sample, sum(each.segment.count for each in opened))
            sampled, found = _encoding_problems(opened, encoder, drawn)
            problems += found
        problems += _commit_problems(directory, manifest)
        problems += _snapshot_problems(directory, manifest)
        notes = tuple(_notes(directory, manifest))
    files = manifest.files()
    return VerifyReport(
        commit=manifest.commit,
        files=len(files),
        bytes=sum(file.bytes for file in files),
        passages=manifest.count,
        deleted=manifest.rows - manifest.count,
        sampled=sampled,
        problems=tuple(problems),
        notes=notes,
    )


def latest_readable(directory: Path) -> Manifest | None:
    """The last commit that has a readable file of its own. Raises NewerFormatError."""
    for number in reversed(commit_numbers(directory)):
        found = readable_commit(directory, number)
        if found is not None:
            return found
    return None


def readable_commit(directory: Path, number: int) -> Manifest | None:
    """Commit ``number``; None when its file is missing or damaged. Raises NewerFormatError."""
    try:
        return read_manifest_file(commit_file(directory, number))
    except NewerFormatError:
        raise
    except DataError:
        return None


def _held(directory: Path) -> tuple[Manifest, HeldCommit, list[str]]:
    """The commit to check, held so that no writer removes its files, and whether it is in force."""
    for _ in range(_ATTEMPTS):
        problems = []
        try:
            manifest = read_manifest(directory)
            found = "none"
        except NewerFormatError:
            raise
        except DataError:
            manifest, found = None, "a damaged one"
        if manifest is None:
            manifest = latest_readable(directory)
            if manifest is None:
                manifest = committed_manifest(directory)  # says what is there instead
            else:
                problems = [
                    f"{directory / MANIFEST}: expected the manifest of the commit in force, found "
                    f"{found}: `rq repair {directory}` puts commit {manifest.commit} in force, "
                    f"the last that can be read in {COMMITS}/"
                ]
        held = HeldCommit(directory, manifest.commit)
        if not held.lost:
            return manifest, held, problems
        held.close()
    raise DataError(f"{directory}: other processes change this index all the time: verify it later")


def _double_ids(opened: Sequence[StoredSegment]) -> Iterator[str]:
    """Ids in two segments: of each pair the ids of the smaller are asked of the larger."""
    for pair in combinations(opened, 2):
        smaller, larger = sorted(pair, key=lambda each: each.segment.count)
        ids = smaller.live_ids()
        while batch := list(islice(ids, _IDS_AT_ONCE)):
            twice = larger.rows_by_id(batch)
            if twice:
                first = next(each for each in batch if each in twice)
                files = [each.directory / each.segment.passages.file for each in pair]
                yield (
                    f"{files[0]}: expected each id once in the index, found {shown(first)} in "
                    f"{files[1]} too: delete it with rq delete, and add its passage again"
                )
                break


def _encoding_problems(
    opened: Sequence[StoredSegment], encoder: PassageEncoder, sample: int
) -> tuple[int, list[str]]:
    """Whether passages encoded again are what is stored, and how many there were to encode.

    Those without texts, whose vectors were given, cannot be.
    """
    starts = np.concatenate([[0], np.cumsum([each.segment.count for each in opened])])
    drawn = drawn_rows(int(starts[-1]), sample)
    wrong, encoded = [], 0
    for start, end, segment in zip(starts[:-1], starts[1:], opened, strict=True):
        rows = segment.live_rows()[drawn[(drawn >= start) & (drawn < end)] - start]
        drawn_passages = segment.passages.passages(rows.tolist())
        with_text = [place for place, each in enumerate(drawn_passages) if each.full_text]
        rows, passages = rows[with_text], [drawn_passages[place] for place in with_text]
        if not passages:
            continue
        encoded += len(passages)
        again = encoder.encode_passages(
            [passage.text for passage in passages], [passage.title for passage in passages]
        )
        cosines = _cosines(segment.vectors.gather(rows), again)
        path = segment.directory / segment.segment.passages.file
        wrong += [
            (path, passages[place].id, float(cosines[place]))
            for place in np.flatnonzero(~(cosines >= SAME))
        ]
    if not wrong:
        return encoded, []
    path, passage_id, cosine = wrong[0]
    return encoded, [
        (
            f"{path}: expected a cosine of at least {SAME} between stored vectors and passages "
            f"encoded again, found {cosine:.4f} for passage {shown(passage_id)} ({len(wrong)} of "
            f"{encoded} are below): build the index again with --overwrite"
        )
    ]


def _cosines(stored: NDArray[np.float32], again: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row; 1 where both are zero."""
    a, b = stored.astype(np.float64), again.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = np.einsum("ij,ij->i", a, b)
    equal = np.all(a == b, axis=1)
    found: NDArray[np.float64] = np.where(equal, 1, products / np.where(lengths, lengths, 1))
    return found


def _commit_problems(directory: Path, manifest: Manifest) -> Iterator[str]:
    """Whether kept commits can be read and their files have their sizes."""
    checked = {file.file for file in manifest.files()}
    own = commit_file(directory, manifest.commit)
    # Format 1 had its files elsewhere, and kept no commits.
    kept = any(file.startswith(f"{SEGMENTS}/") for file in checked)
    if kept and readable_commit(directory, manifest.commit) != manifest:
        yield (
            f"{own}: expected a copy of {MANIFEST}, found another or none: `rq repair {directory}` "
            "writes it again"
        )
    for number in commit_numbers(directory):
        if number == manifest.commit:
            continue
        with closing(HeldCommit(directory, number)) as held:
            found = readable_commit(directory, number)
            if held.lost or not commit_file(directory, number).exists():
                continue
            if found is None:
                yield (
                    f"{commit_file(directory, number)}: expected commit {number} of the index, "
                    f"found a damaged file: `rq repair {directory}` sets it aside"
                )
            elif number < manifest.commit:
                for file in found.files():
                    wrong = None if file.file in checked else size_problem(directory, file)
                    checked.add(file.file)
                    if wrong:
                        yield f"commit {number}, which is kept: {wrong}"


def _snapshot_problems(directory: Path, manifest: Manifest) -> Iterator[str]:
    named, damaged = read_snapshots(directory)
    for path in damaged:
        yield (
            f"{path}: expected the number of a commit, found a damaged file: `rq repair "
            f"{directory}` names the commit again if it can tell which it was"
        )
    numbers = {manifest.commit, *commit_numbers(directory)}
    for name, number in named.items():
        # A name that was dropped meanwhile went before its commit.
        if number not in numbers and name in read_snapshots(directory)[0]:
            yield (
                f"{directory / SNAPSHOTS / name}.json: expected the number of a kept commit, found "
                f"{number}: `rq repair {directory}` drops the name"
            )


def _notes(directory: Path, manifest: Manifest) -> Iterator[str]:
    numbers = [each for each in commit_numbers(directory) if each != manifest.commit]
    kept = [found for each in numbers if (found := readable_commit(directory, each))]
    earlier = [str(each.commit) for each in kept if each.commit < manifest.commit]
    if earlier:
        yield f"earlier commits are kept, to go back to with rq rollback: {', '.join(earlier)}"
    later = [str(each.commit) for each in kept if each.commit > manifest.commit]
    if later:
        yield f"a change was cut off before it was in force: commit {', '.join(later)}"
    manifests = [manifest, *kept]
    known = {segment.number for each in manifests for segment in each.segments}
    unfinished = [
        SegmentFolder(directory, each) for each in segment_numbers(directory) if each not in known
    ]
    for segment in unfinished:
        purpose = begun(segment).purpose or "…"
        yield (
            f"{segment.folder}: belongs to no commit (begun by rq {purpose}): "
            "a change at work or cut off; the same command goes on with it"
        )
    used = {file.file for each in manifests for file in each.files()}
    used |= {f"{COMMITS}/{number:06d}.json" for number in commit_numbers(directory)}
    stray = [
        path
        for path in stray_files(directory, used)
        if not any(path.is_relative_to(segment.folder) for segment in unfinished)
    ]
    if stray and len(kept) == len(numbers):
        files = "file" if len(stray) == 1 else "files"
        yield (
            f"{len(stray)} {files} that no commit needs, such as {stray[0]}: the next change, or "
            f"`rq repair {directory}`, removes what is not needed"
        )
