"""Whatever is done to an index in whatever order, it holds and finds what a dictionary would."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    ChangeReport,
    Index,
    add_passages,
    build_index,
    compact,
    delete_passages,
    drop_snapshot,
    history,
    roll_back,
    take_snapshot,
)
from rocketrank.index.vectors import VECTOR_TYPES, VectorType

from .small_index import ListCorpus
from .store_model import (
    CONTENTS,
    ENCODER,
    FIELDS,
    FILTERS,
    PASSAGES,
    Contents,
    Filter,
    Model,
    exact_search,
    passage,
)

# A power cut is no part of this, and most of the time would be spent waiting for a disk's fsync.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SHARD_SIZE = 7
QUERIES = np.concatenate(
    [
        np.random.default_rng(5).standard_normal((2, ENCODER.dim)).astype(np.float32),
        ENCODER.encode_passages(["w1 w4"]),
        np.zeros((1, ENCODER.dim), dtype=np.float32),
    ]
)
KINDS = st.sampled_from(["flat", "ivf", "hnsw"])
NAMES = st.sampled_from(["first", "second"])
NUMBERS = st.integers(0, PASSAGES - 1)
Missing = Literal["error", "allowed"]
MISSING: st.SearchStrategy[Missing] = st.sampled_from(["error", "allowed"])
BATCHES = st.lists(
    st.builds(passage, NUMBERS, st.integers(0, CONTENTS - 1)),
    min_size=1,
    max_size=30,
    unique_by=lambda each: each.id,
)


class Store(RuleBasedStateMachine):
    """An index and the model of it; readers that ``held`` a commit hold it over what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY)) / "index"
        self.patch = pytest.MonkeyPatch()
        self.held: list[Index] = []

    def teardown(self) -> None:
        for index in self.held:
            index.close()
        self.patch.undo()
        shutil.rmtree(self.directory.parent)

    @initialize(
        passages=BATCHES,
        kind=KINDS,
        vectors=st.sampled_from(VECTOR_TYPES),
        folded=st.sampled_from([0, 4, 10_000]),
        kept=st.sampled_from([2, 10]),
    )
    def build(
        self,
        passages: Sequence[Passage],
        kind: str,
        vectors: VectorType,
        folded: int,
        kept: int,
    ) -> None:
        # Few commits and small segments, so that folding and forgetting happen often.
        self.patch.setattr("rocketrank.index.changes.FOLDED", folded)
        self.patch.setattr("rocketrank.index.commits.KEPT", kept)
        self.model = Model(kept)
        self.build_again(passages, kind, vectors)

    @rule(passages=BATCHES, kind=KINDS, vectors=st.sampled_from(VECTOR_TYPES))
    def build_again(self, passages: Sequence[Passage], kind: str, vectors: VectorType) -> None:
        options = BuildOptions(
            kind=kind, shard_size=SHARD_SIZE, fields=FIELDS, vectors=vectors, overwrite=True
        )
        report = build_index(self.directory, ListCorpus(passages), ENCODER, options)
        assert report.passages == len(passages)
        self.model.commit({each.id: each for each in passages}, new_history=True)
        self._forget()

    @rule(passages=BATCHES, conflicting=st.booleans())
    def add(self, passages: Sequence[Passage], conflicting: bool) -> None:
        now = self.model.now
        if not conflicting:
            passages = [now.get(each.id, each) for each in passages]
        if any(now.get(each.id, each) != each for each in passages):
            with pytest.raises(DataError, match="which another passage has"):
                self._add(passages)
            return
        report = self._add(passages)
        new = sum(each.id not in now for each in passages)
        assert (report.added, report.unchanged) == (new, len(passages) - new)
        self._changed(report, self.model.with_passages(passages) if new else now)

    @rule(passages=BATCHES, missing=MISSING, known=st.booleans())
    def update(self, passages: Sequence[Passage], missing: Missing, known: bool) -> None:
        now = self.model.now
        if known:
            passages = [each for each in passages if each.id in now] or passages
        added = sum(each.id not in now for each in passages)
        if added and missing == "error":
            with pytest.raises(DataError, match="expected the id of a passage in the index"):
                self._add(passages, update=True)
            return
        report = self._add(passages, update=True, missing=missing)
        unchanged = sum(now.get(each.id) == each for each in passages)
        assert (report.added, report.unchanged) == (added, unchanged)
        assert report.replaced == len(passages) - added - unchanged
        new = unchanged < len(passages)
        self._changed(report, self.model.with_passages(passages) if new else now)

    def _add(
        self, passages: Sequence[Passage], *, update: bool = False, missing: Missing = "error"
    ) -> ChangeReport:
        options = ChangeOptions(shard_size=SHARD_SIZE, missing=missing)
        return add_passages(self.directory, ListCorpus(passages), ENCODER, options, update=update)

    @rule(numbers=st.sets(NUMBERS, max_size=30), missing=MISSING, known=st.booleans())
    def delete(self, numbers: set[int], missing: Missing, known: bool) -> None:
        now = self.model.now
        ids = [f"p{number}" for number in sorted(numbers)]
        if known:
            ids = [each for each in ids if each in now]
        self._delete(ids, missing)

    @rule()
    def delete_all(self) -> None:
        self._delete([*self.model.now], "error")

    def _delete(self, ids: Sequence[str], missing: Missing) -> None:
        now = self.model.now
        absent = [each for each in ids if each not in now]
        if absent and missing == "error":
            with pytest.raises(DataError, match=f"'{absent[0]}' .{len(absent)} of {len(ids)} "):
                delete_passages(self.directory, ids, ChangeOptions())
            return
        report = delete_passages(self.directory, ids, ChangeOptions(missing=missing))
        assert (report.deleted, report.missing) == (len(ids) - len(absent), len(absent))
        left = {each: found for each, found in now.items() if each not in ids}
        self._changed(report, left if len(left) < len(now) else now)

    @rule(kind=st.none() | KINDS)
    def compact(self, kind: str | None) -> None:
        report = compact(self.directory, ChangeOptions(), kind=kind)
        if report.commit > self.model.current:
            self.model.commit(self.model.now, new_history=True)
        self._forget()
        with Index.open(self.directory) as index:
            assert index.manifest.commit == report.commit == self.model.current
            assert index.manifest.rows == len(self.model.now)
            kinds = [segment.structure.kind for segment in index.manifest.segments]
            assert kinds == ([kind or index.manifest.kind] if len(index) else [])

    @rule(name=NAMES)
    def take_snapshot(self, name: str) -> None:
        if self.model.names.get(name, self.model.current) != self.model.current:
            with pytest.raises(UsageError, match="already"):
                take_snapshot(self.directory, name)
            return
        assert take_snapshot(self.directory, name) == self.model.current
        self.model.names[name] = self.model.current

    @rule(name=NAMES)
    def drop_snapshot(self, name: str) -> None:
        if name not in self.model.names:
            with pytest.raises(UsageError, match="expected the name of a snapshot"):
                drop_snapshot(self.directory, name)
            return
        drop_snapshot(self.directory, name)
        del self.model.names[name]
        self._forget()

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        which = self._one_that_is_kept(data)
        manifest = roll_back(self.directory, which)
        number = self.model.names.get(which) or int(which)
        if manifest.commit == self.model.current:
            assert [*self.model.now.items()] == [*self.model.commits[number].items()]
        else:
            assert number != self.model.current
            self.model.commit(self.model.commits[number])
        self._forget()

    @rule(data=st.data())
    def read_an_earlier_commit(self, data: st.DataObject) -> None:
        which = self._one_that_is_kept(data)
        number = self.model.names.get(which) or int(which)
        with Index.open(self.directory, commit=which) as index:
            assert index.manifest.commit == number
            check_contents(index, self.model.commits[number])

    def _one_that_is_kept(self, data: st.DataObject) -> str:
        numbers = [str(number) for number in self.model.commits]
        return data.draw(st.sampled_from([*self.model.names, *numbers]))

    @rule(number=st.integers(0, 60))
    def ask_for_a_commit_that_is_not_kept(self, number: int) -> None:
        if number not in self.model.commits:
            with pytest.raises(UsageError, match="expected a commit that is kept"):
                roll_back(self.directory, str(number))
            with pytest.raises(UsageError, match="expected a commit that is kept"):
                Index.open(self.directory, commit=str(number))

    @precondition(lambda self: len(self.held) < 2)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        self.held.append(Index.open(self.directory, commit=self._one_that_is_kept(data)))

    @precondition(lambda self: self.held)
    @rule()
    def release(self) -> None:
        self.held.pop(0).close()

    @rule(
        query=st.integers(0, len(QUERIES) - 1),
        k=st.integers(1, PASSAGES + 5),
        chosen=st.none() | st.sampled_from(FILTERS),
    )
    def search(self, query: int, k: int, chosen: Filter | None) -> None:
        with Index.open(self.directory) as index:
            check_search(index, self.model.now, [query], k, chosen)

    def _changed(self, report: ChangeReport, contents: Contents) -> None:
        if contents is not self.model.now:
            self.model.commit(contents)
        self._forget()
        assert (report.commit, report.passages) == (self.model.current, len(contents))

    def _forget(self) -> None:
        """A change went through: no file is left but those of the commits that are kept."""
        self.model.forget({index.manifest.commit for index in self.held})
        needed = {"manifest.json", "write.lock"}
        needed |= {f"snapshots/{name}.json" for name in self.model.names}
        for number in self.model.commits:
            with Index.open(self.directory, commit=str(number)) as index:
                needed |= {file.file for file in index.manifest.files()}
                needed.add(f"commits/{number:06d}.json")
        paths = (path for path in self.directory.rglob("*") if path.is_file())
        assert {path.relative_to(self.directory).as_posix() for path in paths} == needed

    @invariant()
    def it_holds_and_finds_what_the_model_holds(self) -> None:
        with Index.open(self.directory) as index:
            assert index.manifest.commit == self.model.current
            check_contents(index, self.model.now)
            for k in (1, 5, PASSAGES + 5):
                check_search(index, self.model.now, range(len(QUERIES)), k)
            check_search(index, self.model.now, [0], 8, FILTERS[2])

    @invariant()
    def readers_go_on_with_the_commit_they_hold(self) -> None:
        for index in self.held:
            contents = self.model.commits[index.manifest.commit]
            check_contents(index, contents)
            check_search(index, contents, range(len(QUERIES)), 5)

    @invariant()
    def its_history_is_what_must_be_kept(self) -> None:
        found = [(note.number, note.passages, note.in_force) for note in history(self.directory)]
        current = self.model.current
        assert found == [
            (number, len(contents), number == current)
            for number, contents in sorted(self.model.commits.items())
        ]
        names = {name: each.number for each in history(self.directory) for name in each.names}
        assert names == self.model.names


def check_contents(index: Index, contents: Contents) -> None:
    """Every passage by its row, one after another, and by its id; and none besides."""
    expected = [*contents.values()]
    rows = index.rows().tolist()
    assert len(index) == len(expected)
    assert rows == sorted(set(rows))
    assert index.passages(rows) == expected
    assert [*index.live_passages()] == expected
    assert index.passages_by_id([*contents][::-1]) == expected[::-1]
    absent = next((f"p{n}" for n in range(PASSAGES) if f"p{n}" not in contents), "never")
    with pytest.raises(DataError, match=f"'{absent}'"):
        index.passages_by_id([absent])


def check_search(
    index: Index,
    contents: Contents,
    queries: Sequence[int],
    k: int,
    chosen: Filter | None = None,
) -> None:
    """Ids and scores are those of an exact search, and the rest of the k places is empty."""
    found = index.search(QUERIES[list(queries)], k, where=chosen.where if chosen else None)
    assert found.rows.shape == found.scores.shape == (len(queries), k)
    for number, rows, scores in zip(queries, found.rows, found.scores, strict=True):
        expected = exact_search(contents, index.manifest.vectors, QUERIES[number], k, chosen)
        count = len(expected)
        passages = index.passages(rows[:count].tolist())
        hits = [(each.id, score) for each, score in zip(passages, scores, strict=False)]
        assert hits == expected
        assert passages == [contents[each] for each, _ in expected]
        assert (rows[count:] == -1).all() and (scores[count:] == -np.inf).all()


def run(examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
    )
    run_state_machine_as_test(Store, settings=chosen)


def test_an_index_does_what_a_dictionary_does() -> None:
    run(examples=12, steps=25)


@pytest.mark.slow
def test_an_index_does_what_a_dictionary_does_over_many_long_histories() -> None:
    run(examples=60, steps=60)
