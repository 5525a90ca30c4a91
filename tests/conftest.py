"""Fixtures that several folders share: a small trial book, and the real one, each built once a session."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import tqdm.auto  # noqa: F401 (it reads its environment at import: the bars of this process stay as they are)
from filelock import FileLock
from hypothesis import HealthCheck, settings

from gendyn_lite import book, notebooks
from gendyn_lite.threads import threads
from tests.book import trial

os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # an older debugpy warns of it on stderr
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job that a script began in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # kernels of this environment, whatever else is registered

# A busy machine is no failure; CI draws the same examples every time.
settings.register_profile(
    "gendyn", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=os.environ.get("CI") == "true"
)
settings.load_profile("gendyn")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Networks that a module builds as it is imported are alike, whatever was imported before it."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


def pytest_collection_finish() -> None:
    """Kernels show no progress bar, as `gendyn refresh` executes: none is compared.

    This process has read its environment by now, and the workers that pytest-xdist starts before have theirs.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests of minutes are skipped by name, and run by `make test-slow`."""
    mark = item.get_closest_marker("minutes")
    if mark and os.environ.get("GENDYN_SLOW") != "1":
        pytest.skip(f"takes minutes ({mark.args[0]}): make test-slow")


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> Iterator[None]:
    """The same numbers whatever ran before; small tensors on one thread, since two that wait for each other are slower.

    On a busy machine they are much slower.
    """
    torch.manual_seed(0)
    with threads(1):
        yield


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A folder that is filled once a session, by the first worker that asks; the others wait, and only read it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def trial_book(once: Once) -> Path:
    """The folder ``book`` of the trial book; its pages are under ``../_build/html``."""

    def build(folder: Path) -> None:
        source = trial.write(folder, trial.notebook())
        book.build(book=source, out=folder / "_build", say=lambda line: None)

    return once("trial", build) / "book"


@pytest.fixture(scope="session")
def trial_site(trial_book: Path) -> Path:
    """The trial book's pages."""
    return trial_book.parent / "_build" / "html"


@pytest.fixture(scope="session")
def real_site() -> Path:
    """The real book's pages, built from the working tree into ``_build/test`` (warnings are errors).

    Chapters that `make test` has executed by then, and compared, are rendered as they were; the others are executed.
    """
    execute = notebooks.run

    def run(path: Path, *, out: Path, **options: Any) -> Path:
        kept = Path(os.environ.get("GENDYN_EXECUTED", os.devnull)) / path.name
        if not kept.is_file():
            return execute(path, out=out, **options)
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(kept, out))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "run", run)
        return book.build(out=trial.ROOT / "_build" / "test").parent


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that GENDYN_RUNS names."""
    monkeypatch.setenv("GENDYN_RUNS", str(tmp_path / "runs"))
    yield tmp_path / "runs"
