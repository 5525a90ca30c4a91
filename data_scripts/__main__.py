"""``python -m data_scripts``: the same as ``gendyn data``."""

from __future__ import annotations

import argparse
import sys

from data_scripts import cli
from gendyn_lite.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run the command; a user's mistake is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts", description=cli.__doc__)
    cli.add_arguments(parser)
    try:
        return cli.run(parser.parse_args(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
