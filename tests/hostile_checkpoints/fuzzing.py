"""Random pickles of plausible opcodes, and valid files after accidents."""

import pickletools

from hypothesis import strategies as st

from tests.hostile_checkpoints.layouts import VALID

ARGUMENTS: dict[str, st.SearchStrategy[bytes]] = {
    "uint1": st.binary(min_size=1, max_size=1),
    "uint2": st.binary(min_size=2, max_size=2),
    "int4": st.binary(min_size=4, max_size=4),
    "uint4": st.sampled_from([b"\x00\x00\x00\x00", b"\x01\x00\x00\x00", b"\xff\xff\xff\xff"]),
    "uint8": st.sampled_from([bytes(8), b"\x01" + bytes(7), b"\xff" * 8]),
    "float8": st.binary(min_size=8, max_size=8),
    "stringnl": st.sampled_from([b"'a'\n", b'"\\x41"\n', b"'\n", b"a\n"]),
    "stringnl_noescape": st.sampled_from([b"a\n", b"\xff\n", b"\n"]),
    "stringnl_noescape_pair": st.sampled_from([b"os\nsystem\n", b"collections\nOrderedDict\n", b"torch._utils\n\n"]),
    "unicodestringnl": st.sampled_from([b"a\n", b"\\u0041\n", b"\\ud800\n", b"\\u1\n"]),
    "decimalnl_short": st.sampled_from([b"0\n", b"00\n", b"01\n", b"7\n", b"-1\n", b"x\n"]),
    "decimalnl_long": st.sampled_from([b"0L\n", b"99999999999999999999L\n", b"L\n"]),
    "floatnl": st.sampled_from([b"1.5\n", b"nan\n", b"x\n"]),
    "long1": st.binary(max_size=9).map(lambda data: bytes([len(data)]) + data),
    "long4": st.binary(max_size=9).map(lambda data: len(data).to_bytes(4, "little") + data),
}
LENGTHS = {"1": 1, "4": 4, "8": 8}


def argument(opcode: pickletools.OpcodeInfo) -> st.SearchStrategy[bytes]:
    """Plausible bytes after this opcode."""
    if opcode.arg is None:
        return st.just(b"")
    size = LENGTHS.get(opcode.arg.name[-1], 0)
    measured = st.binary(max_size=5).map(lambda data: len(data).to_bytes(size or 1, "little") + data)
    return ARGUMENTS.get(opcode.arg.name, measured)


OPCODE = st.one_of(
    [
        argument(opcode).map(opcode.code.encode("latin-1").__add__)
        for opcode in pickletools.opcodes
        if opcode.code != "."
    ]
)
PROGRAM = st.lists(OPCODE, max_size=40).map(lambda parts: b"".join(parts) + b".")
WHOLE = {name: build() for name, build in VALID.items()}


@st.composite
def mutated(draw) -> bytes:
    """A valid file after a few accidents."""
    data = bytearray(WHOLE[draw(st.sampled_from(sorted(WHOLE)))])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["flip", "cut", "drop", "splice", "duplicate"])):
            case "flip" if data:
                data[at] ^= draw(st.integers(1, 255))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + length]
            case "splice":
                data[at : at + length] = draw(st.one_of(st.binary(max_size=64), PROGRAM))
            case "duplicate":
                data[at:at] = data[at : at + length]
    return bytes(data)
