"""A pickle reader that executes nothing: a stack machine whose only products are data.

A pickle is a program that names and calls whatever it likes. Here a name becomes a `Global`, a call a `Call` that keeps
callee, arguments and state; nothing is imported, looked up or run, and no opcode can reach the interpreter. What is
read is bounded before memory is taken: numbers of opcodes and of keys, lengths of text.
"""

import codecs
import warnings
from collections.abc import Callable
from typing import Any

from generator.importers.pickle_machine import Machine
from generator.importers.pickled import Call, Global, PersistentId, PickledValue

__all__ = ["Call", "Global", "PersistentId", "PickledValue", "read_pickle"]

MOST_OPCODES = 2_000_000  # the largest real checkpoints, with their optimizers, have about a tenth


def read_pickle(data: bytes | memoryview, start: int = 0, most_opcodes: int = MOST_OPCODES) -> PickledValue:
    """Read the pickle that begins at byte `start`, executing nothing.

    Plain values come back as they are, byte arrays as bytes, byte strings of more than 4096 bytes as views into `data`,
    everything named or called as `Global`, `Call` and `PersistentId`. Raises ValueError for what is malformed or beyond
    the limits.
    """
    machine = Machine(memoryview(data), start)
    for _ in range(most_opcodes):
        code = machine.take(1)[0]
        if code == STOP:
            return PickledValue(machine.pop(), machine.at, machine.globals, tuple(machine.persistent_ids))
        if code not in OPCODES:
            machine.fail(f"opcode 0x{code:02x}", "one that pickles have")
        OPCODES[code](machine)
    machine.fail(f"more than {most_opcodes:,} opcodes", "fewer")


def _reversed_pops(machine: Machine, count: int) -> list[Any]:
    return [machine.pop() for _ in range(count)][::-1]


def _call(machine: Machine) -> None:
    callee, arguments = _reversed_pops(machine, 2)
    machine.call(callee, arguments, {})


def _instance(machine: Machine) -> None:
    module, name = machine.line_of("utf-8"), machine.line_of("utf-8")
    machine.call(machine.name(module, name), tuple(machine.since_mark()), {})


def _object(machine: Machine) -> None:
    values = machine.since_mark()
    if not values:
        machine.fail("an object without a class", "a well-formed pickle")
    machine.call(values[0], tuple(values[1:]), {})


def _quoted(machine: Machine) -> str:
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        machine.fail("text without quotation marks", "quoted text")
    try:
        with warnings.catch_warnings(action="ignore"):  # of unknown escape sequences, which mean themselves
            raw = codecs.escape_decode(line[1:-1])[0]
    except ValueError:
        machine.fail("an escape sequence that text does not have", "valid text")
    return machine.text(raw, "latin-1")


def _frame(machine: Machine) -> None:
    size = machine.number("<Q")
    if size > len(machine.data) - machine.at:
        machine.fail(f"a frame of {size:,} bytes", "one that ends with the data")


def _announced(machine: Machine, form: str) -> int:
    count = machine.number(form)
    return count if count >= 0 else machine.fail(f"a length of {count}", "0 or more")


def _int_or_bool(line: bytes) -> int | bool:
    """Protocols 0 and 1 write booleans as integers of two digits."""
    return line == b"01" if line in (b"00", b"01") else int(line)


ALL_DATA = "a pickle that holds all of its data"
Opcode = Callable[[Machine], Any]
STOP = ord(".")
_BY_CHARACTER: dict[bytes, Opcode] = {
    # constants and numbers
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(m.decimal(_int_or_bool)),
    b"L": lambda m: m.push(m.decimal(int)),
    b"F": lambda m: m.push(m.decimal(float)),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"G": lambda m: m.push(m.number(">d")),
    b"\x8a": lambda m: m.push(m.integer(m.number("<B"))),
    b"\x8b": lambda m: m.push(m.integer(m.number("<i"))),
    # text and bytes
    b"S": lambda m: m.push(_quoted(m)),
    b"T": lambda m: m.push(m.text(m.take(_announced(m, "<i")), "latin-1")),
    b"U": lambda m: m.push(m.text(m.take(m.number("<B")), "latin-1")),
    b"V": lambda m: m.push(m.line_of("raw-unicode-escape")),
    b"X": lambda m: m.push(m.text(m.take(m.number("<I")), "utf-8")),
    b"\x8c": lambda m: m.push(m.text(m.take(m.number("<B")), "utf-8")),
    b"\x8d": lambda m: m.push(m.text(m.take(m.number("<Q")), "utf-8")),
    b"B": lambda m: m.push(m.blob(m.number("<I"))),
    b"C": lambda m: m.push(m.blob(m.number("<B"))),
    b"\x8e": lambda m: m.push(m.blob(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.blob(m.number("<Q"))),
    # containers
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"\x8f": lambda m: m.push(set()),
    b"l": lambda m: m.push(m.since_mark()),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"d": lambda m: m.dictionary(m.since_mark()),
    b"\x91": lambda m: m.push(frozenset(m.key(value) for value in m.since_mark())),
    b"\x85": lambda m: m.push(tuple(_reversed_pops(m, 1))),
    b"\x86": lambda m: m.push(tuple(_reversed_pops(m, 2))),
    b"\x87": lambda m: m.push(tuple(_reversed_pops(m, 3))),
    b"a": lambda m: m.extend([m.pop()]),
    b"e": lambda m: m.extend(m.since_mark()),
    b"\x90": lambda m: m.extend(m.since_mark()),
    b"s": lambda m: m.update(_reversed_pops(m, 2)),
    b"u": lambda m: m.update(m.since_mark()),
    # stack and memo
    b"(": lambda m: m.mark(),
    b"0": lambda m: m.discard(),
    b"1": lambda m: m.since_mark(),
    b"2": lambda m: m.push(m.top()),
    b"p": lambda m: m.remember(m.decimal(int)),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"g": lambda m: m.recall(m.decimal(int)),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    # names and calls, none of which is made
    b"c": lambda m: m.push(m.name(m.line_of("utf-8"), m.line_of("utf-8"))),
    b"\x93": lambda m: m.push(m.name(*_reversed_pops(m, 2))),
    b"R": _call,
    b"\x81": _call,
    b"\x92": lambda m: m.call(*_reversed_pops(m, 3)),
    b"i": _instance,
    b"o": _object,
    b"b": lambda m: m.build(),
    b"P": lambda m: m.persistent(m.line_of("utf-8")),
    b"Q": lambda m: m.persistent(m.pop()),
    # framing, and what refers to things outside the file
    b"\x80": lambda m: m.number("<B"),
    b"\x95": _frame,
    **dict.fromkeys((b"\x82", b"\x83", b"\x84"), lambda m: m.fail("an extension code", ALL_DATA)),
    **dict.fromkeys((b"\x97", b"\x98"), lambda m: m.fail("an out-of-band buffer", ALL_DATA)),
}
OPCODES = {character[0]: opcode for character, opcode in _BY_CHARACTER.items()}
