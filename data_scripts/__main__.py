"""``python -m data_scripts``: the same as ``gendyn data``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gendyn_lite import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the exit codes of ``gendyn``."""
    return cli.main(["data", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
