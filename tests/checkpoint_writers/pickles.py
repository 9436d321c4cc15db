"""A pickle emitter that writes calls of named globals without having them: opcodes by hand, protocols 2 to 4."""

import struct
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Name:
    """A global: what the reading side looks up as module.name."""

    module: str
    name: str


@dataclass(eq=False)
class Called:
    """callee(*args), or callee.__new__(callee, *args) where new; then what follows such a call in a pickle."""

    callee: Any
    args: tuple = ()
    new: bool = False
    items: list = field(default_factory=list)
    entries: dict = field(default_factory=dict)
    state: Any = None


def instance(module: str, name: str, state: Any) -> Called:
    """An object with a state, as protocol 2 and above write it."""
    return Called(Name(module, name), new=True, state=state)


def easy_dict(content: dict[str, Any]) -> Called:
    return Called(Name("dnnlib.util", "EasyDict"), new=True, entries=content)


def dumps(value: Any, protocol: int = 4, old_numpy: bool = False, python2: bool = False) -> bytes:
    """old_numpy: its multiarray module under the name that it had before numpy 2; python2: text as its byte strings."""
    emitter = _Emitter(protocol, old_numpy or python2, python2)
    emitter.save(value)
    body = bytes(emitter.out) + b"."
    frame = b"\x95" + struct.pack("<Q", len(body)) if protocol >= 4 else b""
    return b"\x80" + bytes([protocol]) + frame + body


class _Emitter:
    def __init__(self, protocol: int, old_numpy: bool, python2: bool):
        self.protocol, self.old_numpy, self.python2 = protocol, old_numpy, python2
        self.out = bytearray()
        self.memo: dict[Any, int] = {}
        self.kept: list[Any] = []  # an id stays one object's as long as that object lives

    def save(self, value: Any) -> None:
        key = value if isinstance(value, str | Name) else id(value)
        if key in self.memo:
            self.out += b"j" + struct.pack("<I", self.memo[key])
            return
        if value is None or isinstance(value, bool):
            self.out += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif type(value) is int:
            self.save_int(value)
        elif type(value) is float:
            self.out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            self.save_text(value)
            self.remember(key, value)
        elif isinstance(value, bytes):
            self.save_bytes(value)
        elif type(value) is tuple:
            self.save_tuple(value)
        elif type(value) is list:
            self.out += b"]"
            self.remember(key, value)
            self.save_items(value)
        elif type(value) is dict:
            self.out += b"}"
            self.remember(key, value)
            self.save_entries(value)
        elif isinstance(value, Name):
            self.save_name(value)
            self.remember(key, value)
        elif isinstance(value, Called):
            self.save_called(key, value)
        else:
            self.save_reduced(key, value)

    def remember(self, key: Any, value: Any) -> None:
        self.kept.append(value)
        self.memo[key] = len(self.memo)
        self.out += b"\x94" if self.protocol >= 4 else b"r" + struct.pack("<I", self.memo[key])

    def save_int(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out += b"\x8a" + bytes([len(data)]) + data

    def save_text(self, value: str) -> None:
        data = value.encode("utf-8", "surrogatepass")
        if self.python2:
            self.out += b"T" + struct.pack("<i", len(data)) + data
        elif self.protocol >= 4 and len(data) < 256:
            self.out += b"\x8c" + bytes([len(data)]) + data
        else:
            self.out += b"X" + struct.pack("<I", len(data)) + data

    def save_bytes(self, value: bytes) -> None:
        if self.python2:
            self.out += b"T" + struct.pack("<i", len(value)) + value
        elif self.protocol >= 3:
            self.out += b"B" + struct.pack("<I", len(value)) + value
        else:  # protocol 2 has no bytes: Python 3 writes them as a call that makes them out of text
            self.save(Called(Name("_codecs", "encode"), (value.decode("latin1"), "latin1")))

    def save_tuple(self, value: tuple) -> None:
        if not 1 <= len(value) <= 3:
            self.out += b"(" if value else b")"
        for item in value:
            self.save(item)
        if value:
            self.out += {1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t")

    def save_items(self, items: list) -> None:
        if items:
            self.out += b"("
            for item in items:
                self.save(item)
            self.out += b"e"

    def save_entries(self, entries: dict) -> None:
        if entries:
            self.out += b"("
            for key, item in entries.items():
                self.save(key)
                self.save(item)
            self.out += b"u"

    def save_name(self, value: Name) -> None:
        module = value.module
        if self.old_numpy:
            module = module.replace("numpy._core", "numpy.core")
        if self.protocol >= 4:
            self.save(module)
            self.save(value.name)
            self.out += b"\x93"
        else:
            self.out += b"c" + f"{module}\n{value.name}\n".encode()

    def save_called(self, key: Any, value: Called) -> None:
        self.save(value.callee)
        self.save(value.args)
        self.out += b"\x81" if value.new else b"R"
        self.remember(key, value)
        self.save_items(value.items)
        self.save_entries(value.entries)
        if value.state is not None:
            self.save(value.state)
            self.out += b"b"

    def save_reduced(self, key: Any, value: Any) -> None:
        """What knows how to pickle itself: NumPy's arrays and numbers, tensors, sets, functions and classes."""
        if isinstance(value, type) or callable(value):
            self.save(Name(value.__module__, value.__qualname__))
            return
        callee, args, *rest = value.__reduce_ex__(2)
        state, items, entries = (*rest, None, None, None)[:3]
        new = getattr(callee, "__name__", "") == "__newobj__"
        call = Called(args[0] if new else callee, args[1:] if new else args, new)
        call.items, call.entries, call.state = list(items or []), dict(entries or {}), state
        self.save_called(key, call)
        self.kept.append(value)  # in the memo under its own id
