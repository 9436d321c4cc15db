"""Pickles written opcode by opcode: `push` gives the opcodes that leave one value on the stack."""

import struct
from collections.abc import Iterable
from typing import Any

STOP = b"."


class Code(bytes):
    """Opcodes that leave one value on the stack."""


def push(value: Any) -> Code:
    """Opcodes for a plain value, whose parts may be `Code` themselves."""
    match value:
        case Code():
            return value
        case None:
            return Code(b"N")
        case bool():
            return Code(b"\x88" if value else b"\x89")
        case int():
            return Code(whole_number(value))
        case float():
            return Code(b"G" + struct.pack(">d", value))
        case str():
            raw = value.encode("utf-8", "surrogatepass")
            return Code(b"X" + struct.pack("<I", len(raw)) + raw)
        case bytes():
            return Code(b"B" + struct.pack("<I", len(value)) + value)
        case tuple():
            return Code(b"(" + joined(value) + b"t")
        case list():
            return Code(b"](" + joined(value) + b"e")
        case dict():
            return Code(b"}(" + joined(part for pair in value.items() for part in pair) + b"u")
    raise TypeError(f"no opcodes for {type(value).__name__}")


def joined(values: Iterable[Any]) -> bytes:
    """Opcodes that leave each of the values on the stack."""
    return b"".join(map(push, values))


def whole_number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    head = b"\x8a" + bytes([size]) if size < 256 else b"\x8b" + struct.pack("<i", size)
    return head + value.to_bytes(size, "little", signed=True)


def named(module: str, name: str) -> Code:
    """GLOBAL."""
    return Code(b"c" + f"{module}\n{name}\n".encode("utf-8", "surrogatepass"))


def called(callee: Code, *args: Any) -> Code:
    """REDUCE."""
    return Code(callee + push(args) + b"R")


def call(path: str, *args: Any) -> Code:
    """REDUCE of module.name."""
    module, _, name = path.rpartition(".")
    return called(named(module, name), *args)


def persistent(value: Any) -> Code:
    """BINPERSID."""
    return Code(push(value) + b"Q")


def ordered(entries: dict[str, Any]) -> Code:
    """An OrderedDict, as torch's state dicts are."""
    pairs = joined(part for pair in entries.items() for part in pair)
    return Code(call("collections.OrderedDict") + b"(" + pairs + b"u")


def pickled(value: Any, protocol: int = 2) -> bytes:
    """A whole pickle of one value."""
    return b"\x80" + bytes([protocol]) + push(value) + STOP
