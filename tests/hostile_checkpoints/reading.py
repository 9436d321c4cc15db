"""One hostile file through the importer, in this process or as the list of a process of its own."""

import codecs
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generator.importers import import_checkpoint, inspect_checkpoint
from tests.hostile_checkpoints import CORPUS
from tests.hostile_checkpoints.case import Case
from tests.hostile_checkpoints.layouts import VALID
from tests.hostile_checkpoints.watching import watched

SECONDS = 10.0
LONGEST_SENTENCE = 1_000
MORE_MEMORY = 2**30


def warm_up(folder: Path) -> None:
    """Whatever the importer imports late, it has imported after this."""
    for codec in ("cp437", "raw-unicode-escape"):  # Python's own, which it loads when first used
        codecs.lookup(codec)
    for number, build in enumerate(VALID.values()):
        path = folder / f"valid-{number}"
        path.write_bytes(build())
        import_checkpoint(path)
        inspect_checkpoint(path)
        path.write_bytes(build()[:-40])
        message_of(import_checkpoint, path)
        path.unlink()


def message_of(read: Callable[[Path], Any], path: Path) -> str | None:
    """The sentence with which a reader refuses a file, or None. Anything but ValueError passes through."""
    try:
        value = read(path)
    except ValueError as error:
        return str(error)
    return getattr(value, "problem", None)


def faults(case: Case, path: Path) -> list[str]:
    """What is wrong with how this file is read: nothing, if all is well."""
    canary = path.with_name("canary")
    path.write_bytes(case.build(canary))
    found = []
    for read in (import_checkpoint, inspect_checkpoint):
        began, message = time.process_time(), None
        try:
            with watched() as events:
                message = message_of(read, path)
        except Exception as error:  # whatever it is, the file made it
            found.append(f"{read.__name__} raised {type(error).__name__}: {str(error)[:200]}")
        else:
            found += [f"{read.__name__} {fault}" for fault in _faults_of(message, str(path), _must_refuse(read, case))]
        took = time.process_time() - began
        found += [f"{read.__name__} took {took:.1f} s"] * (took > SECONDS)
        found += [f"{read.__name__}: {event}" for event in events]
    if canary.exists():
        found.append("the payload ran")
        canary.unlink()
    path.unlink()
    return found


def _must_refuse(read: Callable[[Path], Any], case: Case) -> bool:
    return case.refused and (case.inspected or read is import_checkpoint)


def _faults_of(message: str | None, path: str, refused: bool) -> list[str]:
    """What is wrong with a sentence."""
    if message is None:
        return ["accepted it"] if refused else []
    shown = ascii(message[:300])
    checks = {
        "does not begin with the path": message.startswith(f"{path}: "),
        "is long": len(message) <= LONGEST_SENTENCE,
        "holds control characters or surrogates": message.isprintable(),
        "names its path twice": message.count(path) == 1,
        "does not say what was found": any(word in message for word in ("found", "missing", " has ", "holds")),
    }
    return [f"said what {fault}: {shown}" for fault, holds in checks.items() if not holds]


def read_costly(folder: Path, names: list[str]) -> None:
    """Read these files under a limit of memory, a line of JSON each: its name when it begins, its faults at the end."""
    warm_up(folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for name in names:
        print(json.dumps({"name": name}), flush=True)
        path = folder / "costly"
        size = len(CORPUS[name].build(path.with_name("canary")))
        gc.collect()
        resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY + 3 * size, resource.RLIM_INFINITY))
        found = faults(CORPUS[name], path)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(json.dumps({"name": name, "faults": found}), flush=True)


if __name__ == "__main__":
    read_costly(Path(sys.argv[1]), sys.argv[2:])
