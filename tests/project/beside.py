"""An environment of Python beside this one: it has the wheel of the package, and sees what is installed here."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

from tests.book.trial import ROOT

OURS = ("GENDYN_", "TQDM", "PYTHONPATH", "PYTEST", "VIRTUAL_ENV")  # variables that a stranger does not have


class Beside(NamedTuple):
    """Where it is.

    Attributes:
        python: Its interpreter.
        environ: Variables of a process that is to use it.
    """

    python: Path
    environ: dict[str, str]

    def run(self, *words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
        """A command of its interpreter."""
        command = [str(word) for word in (self.python, *words)]
        return subprocess.run(command, cwd=folder, env=self.environ, capture_output=True, text=True, check=False)


def bare(place: Path) -> Beside:
    """Make one in a place, without the package."""
    venv.create(place, with_pip=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    path = f"{place / 'bin'}{os.pathsep}{own['PATH']}"
    seen = [path for path in sys.path if path.endswith("site-packages")]
    shared = os.pathsep.join(str(Path(path).parents[2] / "share" / "jupyter") for path in seen)  # of ipywidgets
    found = Beside(place / "bin" / "python", {**own, "PATH": path, "JUPYTER_PATH": shared})
    site = found.run("-c", "import site; print(site.getsitepackages()[0])", folder=place).stdout.strip()
    Path(site, "beside.pth").write_text("\n".join(seen))
    return found


def wheel_in(folder: Path) -> Path:
    """The wheel of the package, built into a folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def made(folder: Path, *packages: str) -> Beside:
    """Make one in a folder, with the package and some more."""
    found, wheel = bare(folder / "env"), wheel_in(folder)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for words in (("--no-deps", "--force-reinstall", wheel), packages):
        done = found.run(*pip, *words, folder=folder) if words else None
        assert not done or done.returncode == 0, done.stderr
    return found
