"""Every dependency at exactly its lower bound, as constraints of pip: what `make test-oldest` installs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
EXTRAS = ("book", "test")


def bounds() -> dict[str, str]:
    """The lower bound of each dependency of the library and of the extras that its tests need, by name."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    found = [re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)(?:,<\w+)?", requirement) for requirement in wanted]
    return {match[1]: match[2] for match in found if match}


if __name__ == "__main__":
    print("\n".join(f"{name}=={bound}" for name, bound in bounds().items()))  # noqa: T201
