"""One hostile file: how to write it, and what has to become of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """build: from the path that its payload would write, should it ever run, to the file's bytes.

    refused: whether it must be; else reading it is as good, as long as nothing in it runs.
    inspected: whether `inspect_checkpoint`, which reads no numbers, has to see it, too.
    costly: whether it aims at memory or at the interpreter itself, and is therefore read in a process of its own.
    """

    build: Callable[[Path], bytes]
    refused: bool = True
    costly: bool = False
    inspected: bool = True


def plain(
    data: bytes | Callable[[], bytes], refused: bool = True, costly: bool = False, inspected: bool = True
) -> Case:
    """A case without a payload."""
    return Case(lambda canary: data if isinstance(data, bytes) else data(), refused, costly, inspected)
