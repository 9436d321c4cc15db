"""Decoding in a process of its own, so that hostile bytes cost one file's result and never the run.

The process is started once and serves file after file. It imports Pillow but not PyTorch, writes no file, and is bound
in memory and time. When it dies, the file that it died of gets a sentence, and the next file a new process. What comes
back are JSON and pixels, nothing that is executed.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, Self

import numpy as np

from generator.containers import ImageError
from generator.decoding import DEFAULT_LIMITS, Decoded, Limits, decode, out_of_memory
from generator.facts import Facts, read_facts

_START = "import sys; sys.path.insert(0, sys.argv[1]); from generator.isolation import serve; serve()"
_OUT_OF_MEMORY = 71  # the exit code that says so
_LONGEST_LINE = 64 * 2**20


class DecodingProcess:
    """`decode` in another process, started at the first file. Close it, or use it as a context manager.

    One file at a time; threads wait for each other. A pickled one starts its own process where it is used.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._served = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["DecodingProcess"], tuple[()]]:
        return DecodingProcess, ()

    @property
    def pid(self) -> int | None:
        """The process's number, None while there is none."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            self._stop()

    def decode(self, data: bytes, limits: Limits = DEFAULT_LIMITS, frame: int | None = None) -> Decoded:
        """As `generator.decoding.decode`, with facts. Raises ImageError for a crash, too much time or memory, too.

        A file that ends a process which served others before is given to a new one: no file's result depends on
        those before it. Raises RuntimeError where no process can be started.
        """
        with self._lock:
            used = self._served > 0
            try:
                return self._converse(data, limits, frame)
            except _ProcessEndedError as end:
                if end.out_of_time or not used:
                    raise end.as_image_error(limits) from end
            try:
                return self._converse(data, limits, frame)
            except _ProcessEndedError as end:
                raise end.as_image_error(limits) from end

    def _converse(self, data: bytes, limits: Limits, frame: int | None) -> Decoded:
        process = self._process or self._start()
        assert process.stdin and process.stdout
        try:
            _write(process.stdin, {"size": len(data), "frame": frame, "limits": asdict(limits)}, data)
            decoded = _read_decoded(process.stdout, limits)
        except (EOFError, OSError):
            raise _ProcessEndedError(self._stop()) from None
        except ImageError:
            self._served += 1
            raise
        except BaseException:  # interrupted in mid-conversation: what it says next would be taken for another file's
            self._stop()
            raise
        try:
            facts: Facts = _read(process.stdout)
        except (EOFError, OSError):
            facts = {"problems": [f"the reader of the facts stopped ({_name_of_end(self._stop())})"]}
        self._served += 1
        return replace(decoded, facts=facts)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-c", _START, str(Path(__file__).parent.parent)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._process, self._served = process, 0
        assert process.stdout
        try:
            _read(process.stdout)
        except (EOFError, OSError, ValueError):
            message = f"the process that decodes images did not start ({_name_of_end(self._stop())})"
            raise RuntimeError(message) from None
        return process

    def _stop(self) -> int:
        """End the process; return how it ended."""
        process, self._process, self._served = self._process, None, 0
        if process is None:
            return 0
        assert process.stdin and process.stdout
        with suppress(OSError):  # it is gone, and so is what was to be written
            process.stdin.close()
        process.stdout.close()
        try:
            return process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class _ProcessEndedError(Exception):
    """The process ended before it answered. code: as subprocess says it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
        self.out_of_time = sys.platform != "win32" and code in (-signal.SIGPROF, -signal.SIGALRM)

    def as_image_error(self, limits: Limits) -> ImageError:
        if self.out_of_time:
            found = f"found an image that was not decoded in {limits.seconds:g} seconds of processor time"
            return ImageError("refused", f"{found}, expected one that is")
        if self.code == _OUT_OF_MEMORY:
            return ImageError("refused", f"found an image that {out_of_memory(limits)}")
        end = _name_of_end(self.code)
        return ImageError("unreadable", f"found a file that ended its decoder ({end}), expected a complete image")


def _name_of_end(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _write(stream: IO[bytes], header: Any, *bodies: bytes | memoryview) -> None:
    """A line of JSON, then the bytes that it speaks of."""
    stream.write(json.dumps(header, allow_nan=False).encode() + b"\n")
    for body in bodies:
        stream.write(body)
    stream.flush()


def _read(stream: IO[bytes]) -> Any:
    """A line of JSON. Raises EOFError at the stream's end, and for a line without one."""
    line = stream.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


def _read_decoded(stream: IO[bytes], limits: Limits) -> Decoded:
    answer = _read(stream)
    if "error" in answer:
        raise ImageError(answer["error"]["kind"], answer["error"]["message"])
    width, height = answer["width"], answer["height"]
    if not 0 < width * height <= limits.max_pixels:
        raise EOFError
    pixels = np.empty((height, width, 3), np.uint8)
    view, done = pixels.data.cast("B"), 0
    while done < len(view):
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        done += count
    return Decoded(pixels, **{**answer, "transforms": tuple(answer["transforms"])})


def serve() -> NoReturn:
    """The process itself: answer requests on standard input until it ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    try:
        _write(answers, "ready")
    except BrokenPipeError:  # who asked was killed meanwhile
        os._exit(0)
    for descriptor in (0, 1, 2):  # what a decoder prints is the file's text
        os.dup2(null, descriptor)
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of the requests is the sign to stop
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request["size"])
        if len(data) < request["size"]:
            break
        _answer(answers, data, Limits(**request["limits"]), request["frame"])
    sys.exit(0)


def _answer(answers: IO[bytes], data: bytes, limits: Limits, frame: int | None) -> None:
    _bound(limits)
    try:
        decoded = decode(data, limits, frame)
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError) or "out of memory" in error.message:
            os._exit(_OUT_OF_MEMORY)
        _alarm(0)
        kind: Literal["unreadable", "refused"] = error.kind
        _write(answers, {"error": {"kind": kind, "message": error.message}})
        return
    _alarm(0)
    fields = ("width", "height", "format", "codec", "jpeg_quality", "transforms")
    _write(answers, {name: getattr(decoded, name) for name in fields}, decoded.pixels.data.cast("B"))
    _alarm(limits.seconds)
    facts = read_facts(data, decoded)
    _alarm(0)
    _write(answers, facts)


def _bound(limits: Limits) -> None:
    """Let the system end this process above its memory and time, or where it writes a file."""
    if sys.platform != "win32":
        import resource

        for kind, most in (
            (resource.RLIMIT_AS, limits.max_memory),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
        ):
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    _alarm(limits.seconds)


def _alarm(seconds: float) -> None:
    """End this process after so many seconds, in the middle of native code, too; 0: not any more.

    Counted is processor time, so that the result does not depend on what else the machine does; one that waits is ended
    after 20 times as long.
    """
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, 20 * seconds)
