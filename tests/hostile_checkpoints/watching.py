"""Python's own record of what a piece of code imports, runs, opens, connects to and writes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Audit events of which reading a file needs none; those that end in a dot by their beginning.
FORBIDDEN = {
    "import", "exec", "compile", "code.__new__", "function.__new__", "pickle.find_class", "marshal.loads",
    "marshal.load",
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill",
    "os.putenv",
    "os.chdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.mkdir", "os.rename", "os.remove",
    "os.rmdir",
    "os.truncate", "os.utime", "os.setxattr", "subprocess.Popen", "pty.spawn", "webbrowser.open", "urllib.Request",
    "http.client.connect", "ftplib.connect", "smtplib.connect", "setopencodehook", "sys.addaudithook", "sys.settrace",
    "sys.setprofile", "sys._getframe.f_trace", "builtins.input", "builtins.breakpoint", "cpython.run_command",
}  # fmt: skip
FAMILIES = ("socket.", "ctypes.", "shutil.", "tempfile.", "sqlite3.", "telnetlib.", "imaplib.", "poplib.", "nntplib.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_noted: list[str] | None = None
_hooked = False


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _noted is None:
        return
    if event == "open":
        _, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & WRITING)
        if not writes:
            return
    elif event not in FORBIDDEN and not event.startswith(FAMILIES):
        return
    _noted.append(f"{event} {arguments[:1]!r:.200}")


@contextmanager
def watched() -> Iterator[list[str]]:
    """What happens inside the block of what reading a file must never do."""
    global _noted, _hooked
    if not _hooked:
        sys.addaudithook(_note)  # it can't be taken away again; outside of the block it does nothing
        _hooked = True
    _noted = []
    try:
        yield _noted
    finally:
        _noted = None
