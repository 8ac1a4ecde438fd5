"""Mining that is killed at any point goes on where it stopped, or says why it cannot."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rocketrank.errors import RocketRankError, UsageError
from rocketrank.training.denoising import Limits
from rocketrank.training.lists import read_lists
from rocketrank.training.mining import MiningResult
from rocketrank.training.mining_ledger import MiningLedger, ledger_path

from .small_mining import ONE_QUERY_A_BATCH, Collection, TableScorer, numbered

SCRIPT = Path(__file__).with_name("small_mining.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"


def mine_hybrid(many: Collection, output: Path, scorer: TableScorer, **other: Any) -> MiningResult:
    """Hybrid lists for 9 queries, one a batch."""
    options = {"lists": "hybrid", "depth": ONE_QUERY_A_BATCH, "negatives": 8, **other}
    return many.mine(output, {f"q{n}": [f"p{n}"] for n in range(9)}, scorer=scorer, **options)


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[Collection, Path]:
    """Mining that stopped in the fifth of its 9 batches."""
    many = numbered(tmp_path / "many.index", 30)
    with pytest.raises(InterruptedError):
        mine_hybrid(many, tmp_path / "lists.jsonl", TableScorer(many.logits, stops_at=4))
    return many, tmp_path / "lists.jsonl"


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    stopped: tuple[Collection, Path], tmp_path: Path
) -> None:
    many, output = stopped
    assert not output.exists()
    scorer = TableScorer(many.logits)
    mine_hybrid(many, output, scorer)
    assert scorer.calls == 5
    mine_hybrid(many, tmp_path / "whole.jsonl", TableScorer(many.logits))
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    reports = [tmp_path / f"{name}.report.json" for name in ("lists", "whole")]
    assert reports[0].read_bytes() == reports[1].read_bytes()
    assert not ledger_path(output).exists()


@pytest.mark.parametrize(
    "tear",
    [
        lambda content: content[:-30],
        lambda content: content + b'{"batch":4,"lists":[[',
        lambda content: content[:-200] + bytes(100) + b"\n",
    ],
    ids=["cut short", "begun", "zeros"],
)
def test_a_torn_batch_is_mined_again(
    stopped: tuple[Collection, Path], tmp_path: Path, tear: Callable[[bytes], bytes]
) -> None:
    many, output = stopped
    ledger = ledger_path(output)
    ledger.write_bytes(tear(ledger.read_bytes()))
    mine_hybrid(many, output, TableScorer(many.logits))
    mine_hybrid(many, tmp_path / "whole.jsonl", TableScorer(many.logits))
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_killed_at_many_points_it_ends_with_the_bytes_of_an_uninterrupted_run(
    tmp_path: Path,
) -> None:
    numbered(tmp_path / "small.index", 40)
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"

    def command(output: Path, seconds: float) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        return subprocess.Popen(
            [sys.executable, SCRIPT, output, "60", str(seconds)], env=environment
        )

    assert command(whole, 0).wait() == 0
    ledger = ledger_path(killed)
    chance = np.random.default_rng(5)
    kills = 0
    while kills < 3 and not killed.exists():
        size = ledger.stat().st_size if ledger.exists() else 0
        further = chance.integers(30_000)  # of some 200,000 bytes in all
        process = command(killed, 0.02)
        while process.poll() is None:
            if ledger.exists() and ledger.stat().st_size > size + further:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    assert killed.exists() or command(killed, 0).wait() == 0
    assert killed.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 3}, r"begun with seed 0, and this command has 3"),
        ({"negatives": 9}, r"begun with negatives 8, and this command has 9"),
        ({"limits": Limits(0.2, 0.9)}, r"begun with low 0\.1, and this command has 0\.2"),
        ({"precision": "bf16"}, r"begun with precision , and this command has bf16"),
    ],
)
def test_other_options_are_refused_by_name(
    stopped: tuple[Collection, Path], other: dict[str, Any], named: str
) -> None:
    many, output = stopped
    with pytest.raises(UsageError, match=named):
        mine_hybrid(many, output, TableScorer(many.logits), **other)
    mine_hybrid(many, output, TableScorer(many.logits))  # the run can still go on


def test_overwriting_starts_again_with_other_options(stopped: tuple[Collection, Path]) -> None:
    many, output = stopped
    scorer = TableScorer(many.logits)
    mine_hybrid(many, output, scorer, overwrite=True, seed=3)
    assert scorer.calls == 9


def test_a_run_that_could_not_write_its_result_need_not_mine_again(
    stopped: tuple[Collection, Path], tmp_path: Path
) -> None:
    many, output = stopped
    in_the_way = tmp_path / "lists.report.json"
    in_the_way.mkdir()
    with pytest.raises(RocketRankError, match=r"lists\.report\.json: cannot be written"):
        mine_hybrid(many, output, TableScorer(many.logits))
    in_the_way.rmdir()
    scorer = TableScorer(many.logits)
    result = mine_hybrid(many, output, scorer)
    assert (scorer.calls, result.resumed) == (0, 9)
    assert len(list(read_lists(output))) == result.lists


def test_two_processes_do_not_mine_one_output(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl.mining.partial"
    with (
        MiningLedger(path, {"seed": 1}),
        pytest.raises(RocketRankError, match="another process is mining"),
    ):
        MiningLedger(path, {"seed": 1})


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl.mining.partial"
    path.write_text("my notes")
    with pytest.raises(UsageError, match="found another file"):
        MiningLedger(path, {"seed": 1}, restart=True)
    assert path.read_text() == "my notes"
