"""The stack machine of the inert pickle reader: everything that it can do makes data."""

import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from generator.importers.pickled import Call, Global, PersistentId, described

MOST_KEYS = 10_000  # keys other than text: their hashes can be made to collide
LONGEST_LINE = 65_536  # of the opcodes that read a line
LONGEST_INT = 1_024  # bytes
LARGEST_PLAIN_TEXT = (
    2**24
)  # bytes: longer text may be Latin-1 only (arrays in old protocols), which can't grow when read
LARGEST_KEY = 2**60  # integers below it all have hashes of their own
LATIN_1_IN_UTF_8 = bytes(range(0xC4))
KEPT_BYTES = 4_096  # longer byte strings stay where they are in the file
DEEPEST_KEY = 8


class Machine:
    """Stack, marks, memo and place of one pickle that is being read."""

    def __init__(self, data: memoryview, start: int):
        self.data, self.at = data, start
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.globals: Counter[Global] = Counter()
        self.persistent_ids: list[PersistentId] = []
        self.keys = 0
        self.text_left = max(2**26, len(data))

    def fail(self, found: str, expected: str) -> NoReturn:
        """Raise the ValueError that says where and what."""
        raise ValueError(f"found {found} at byte {self.at:,} of the pickle, expected {expected}")

    # ------------------------------------------------------------ reading

    def take(self, count: int) -> memoryview:
        """The next bytes of the data."""
        if count > len(self.data) - self.at:
            self.fail(f"the end of the data where {count:,} more bytes are announced", "a whole pickle")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        """The next number, in the form of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        """The bytes up to the end of the line."""
        window = bytes(self.data[self.at : self.at + LONGEST_LINE])
        end = window.find(b"\n")
        if end < 0:
            self.fail(f"no end of a line within {LONGEST_LINE:,} bytes", "a short line")
        self.at += end + 1
        return window[:end]

    def text(self, raw: bytes | memoryview, encoding: str) -> str:
        """Decoded text."""
        if len(raw) > LARGEST_PLAIN_TEXT and bytes(raw).translate(None, LATIN_1_IN_UTF_8):
            self.fail(f"{len(raw):,} bytes of text", f"at most {LARGEST_PLAIN_TEXT:,}")
        try:
            text = str(raw, encoding, "surrogatepass" if encoding == "utf-8" else "strict")
        except UnicodeDecodeError as error:
            self.fail(f"text that is not {encoding} ({error.reason})", "valid text")
        self.text_left -= sys.getsizeof(text)
        if self.text_left < 0:
            self.fail("more text than the file has bytes", "less")
        return text

    def line_of(self, encoding: str) -> str:
        """The text up to the end of the line."""
        return self.text(self.line(), encoding)

    def decimal(self, convert: Callable[[bytes], Any]) -> Any:
        """A number written in digits, up to the end of the line."""
        line = self.line().removesuffix(b"L")
        try:
            return convert(line)
        except ValueError:
            self.fail(f"{line[:20]!r}", "a number")

    def blob(self, count: int) -> bytes | memoryview:
        """A byte string: a view, where it is long."""
        view = self.take(count)
        return view if count > KEPT_BYTES else bytes(view)

    def integer(self, count: int) -> int:
        """A signed whole number of so many bytes, little-endian."""
        if not 0 <= count <= LONGEST_INT:
            self.fail(f"a whole number of {count:,} bytes", f"at most {LONGEST_INT}")
        return int.from_bytes(self.take(count), "little", signed=True)

    # ------------------------------------------------------------ stack, marks and memo

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the value on top of the stack."""
        if not self.stack:
            self.fail("too few values on the stack", "a well-formed pickle")
        return self.stack.pop()

    def top(self) -> Any:
        """The value on top of the stack, which stays there."""
        value = self.pop()
        self.push(value)
        return value

    def mark(self) -> None:
        """Begin a new stack on top of this one."""
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """Everything above the last mark, which is taken away."""
        if not self.marked:
            self.fail("no mark on the stack", "a well-formed pickle")
        values, self.stack = self.stack, self.marked.pop()
        return values

    def discard(self) -> None:
        """POP: take away the top, or a mark."""
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()  # POP on a mark takes the mark away

    def remember(self, index: int) -> None:
        """Put the value on top into the memo."""
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        """Push what was put into the memo."""
        if index not in self.memo:
            self.fail(f"memo {described(index)}, which nothing was put into", "one that is known")
        self.push(self.memo[index])

    # ------------------------------------------------------------ names, calls and containers

    def name(self, module: Any, name: Any) -> Global:
        """A record of something named."""
        if not (type(module) is str and type(name) is str):
            self.fail("a name that is not text", "module and name")
        named = Global(module, name)
        self.globals[named] += 1
        return named

    def call(self, callee: Any, args: Any, kwargs: Any) -> None:
        """Push a record of a call; nothing is called."""
        if type(args) is not tuple or type(kwargs) is not dict:
            self.fail(f"a call with {type(args).__name__} as its arguments", "a tuple")
        self.push(Call(callee, args, kwargs))

    def persistent(self, value: Any) -> None:
        """Push a record of a persistent id."""
        self.persistent_ids.append(PersistentId(value))
        self.push(self.persistent_ids[-1])

    def extend(self, values: list[Any]) -> None:
        """APPEND, APPENDS, ADDITEMS."""
        target = self.top()
        if type(target) is list:
            target.extend(values)
        elif type(target) is Call:
            target.items.extend(values)
        elif type(target) is set:
            target.update(self.key(value) for value in values)
        else:
            self.fail(f"items for a value of type {type(target).__name__}", "a list or a set")

    def update(self, values: list[Any]) -> None:
        """SETITEM, SETITEMS: keys and values in turn."""
        target = self.top()
        if len(values) % 2:
            self.fail("a key without a value", "pairs")
        pairs = zip(values[::2], values[1::2], strict=True)
        if type(target) is dict:
            target.update((self.key(key), value) for key, value in pairs)
        elif type(target) is Call:
            target.entries.extend(pairs)
        else:
            self.fail(f"entries for a value of type {type(target).__name__}", "a dictionary")

    def dictionary(self, values: list[Any]) -> None:
        """DICT: push a dictionary of keys and values in turn."""
        self.push({})
        self.update(values)

    def build(self) -> None:
        """BUILD: note the state that an instance is given."""
        state, target = self.pop(), self.top()
        if type(target) is not Call:
            self.fail(f"state for a value of type {type(target).__name__}", "an instance")
        target.state.append(state)

    def key(self, value: Any, depth: int = 0) -> Any:
        """The value, where it may be a key: its hash must take little time."""
        if type(value) is str and depth == 0:
            return value
        self.keys += 1
        if self.keys > MOST_KEYS or depth > DEEPEST_KEY:
            self.fail(f"more than {MOST_KEYS:,} keys that are not text, or nested ones", "fewer")
        if type(value) in (tuple, frozenset):
            for item in value:
                self.key(item, depth + 1)
        elif type(value) is int and abs(value) >= LARGEST_KEY:
            self.fail(f"an integer key of {value.bit_length()} bits", "at most 60")
        elif type(value) not in (int, str, bytes, float, bool, type(None), Global, Call, PersistentId):
            self.fail(f"a key of type {type(value).__name__}", "one that can be a key")
        return value
