"""The command line as a user calls it: through its entry point."""

import sys
from collections.abc import Callable

import pytest

import cli

Run = Callable[..., tuple[int, str, str]]


def run_command(*arguments: object) -> int:
    """latentprint ARGUMENTS -> exit code."""
    argv, sys.argv = sys.argv, ["latentprint", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        sys.argv = argv
    return int(stop.value.code or 0)
