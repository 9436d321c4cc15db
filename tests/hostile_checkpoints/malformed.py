"""Pickles that are wrong in themselves: announced sizes, misused stacks and memos, bad text, and files cut short."""

import struct

from tests.hostile_checkpoints.archives import torch_zip
from tests.hostile_checkpoints.case import Case, plain
from tests.hostile_checkpoints.layouts import VALID, rosinality
from tests.hostile_checkpoints.opcodes import STOP, call, named, pickled, push

HUGE = struct.pack("<Q", 2**62)
TINY_OPCODES = 100_000

POPPING = {
    "STOP": b"", "POP": b"0", "POP_MARK": b"1", "DUP": b"2", "APPEND": b"a", "APPENDS": b"e", "SETITEM": b"s",
    "SETITEMS": b"u", "ADDITEMS": b"\x90", "FROZENSET": b"\x91", "TUPLE": b"t", "TUPLE1": b"\x85", "TUPLE2": b"N\x86",
    "TUPLE3": b"NN\x87", "LIST": b"l", "DICT": b"d", "REDUCE": b")R", "BUILD": b"Nb", "INST": b"ios\nsystem\n",
    "OBJ": b"o", "NEWOBJ": b")\x81", "NEWOBJ_EX": b")}\x92", "STACK_GLOBAL": b"\x8c\x02os\x93", "BINPERSID": b"Q",
    "PUT": b"p0\n", "BINPUT": b"q\x00", "LONG_BINPUT": b"r\x00\x00\x00\x00", "MEMOIZE": b"\x94",
}  # fmt: skip

RAW: dict[str, bytes] = {
    "BINUNICODE8 of 2**62 bytes": b"\x8d" + HUGE,
    "BINBYTES8 of 2**62 bytes": b"\x8e" + HUGE,
    "BYTEARRAY8 of 2**62 bytes": b"\x96" + HUGE,
    "BYTEARRAY8 of 2**64 - 1 bytes": b"\x96" + b"\xff" * 8,
    "FRAME of 2**62 bytes": b"\x95" + HUGE + b"N.",
    "FRAME of 2**64 - 1 bytes": b"\x95" + b"\xff" * 8 + b"N.",
    "FRAMES of one byte": b"\x95" + struct.pack("<Q", 1) + push({"a": 1}) + b".",
    "BINBYTES of 4 GB": b"B\xff\xff\xff\xff",
    "BINUNICODE of 4 GB": b"X\xff\xff\xff\xff",
    "BINSTRING of a negative length": b"T\xff\xff\xff\xff",
    "BINSTRING of 2 GB": b"T\xff\xff\xff\x7f",
    "LONG4 of 2**31 - 1 bytes": b"\x8b\xff\xff\xff\x7f",
    "LONG4 of a negative length": b"\x8b\xff\xff\xff\xff",
    "LONG4 of 1 MB": b"\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20 + b".",
    "INT of 1,000,000 digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "INT of 60,000 digits": b"I" + b"9" * 60_000 + b"\n.",
    "LONG of 5,000 digits": b"L" + b"9" * 5_000 + b"L\n.",
    "INT without digits": b"I\n.",
    "INT of letters": b"I0x10\n.",
    "FLOAT of letters": b"Fnine\n.",
    "FLOAT of 1,000,000 digits": b"F" + b"9" * 1_000_000 + b"\n.",
    "PUT at a negative index": b"Np-1\n0g-1\n.",
    "PUT at an index of 4,000 digits": b"Np" + b"9" * 4_000 + b"\n.",
    "GET at an index of 4,000 digits": b"g" + b"9" * 4_000 + b"\n.",
    "GET of what was never put": b"g7\n.",
    "BINGET of what was never put": b"h\x07.",
    "LONG_BINGET of what was never put": b"j\xff\xff\xff\xff.",
    "LONG_BINPUT at the highest index": b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.",
    "LONG_BINPUT of nothing": b"r\xff\xff\xff\xff.",
    "MEMOIZE of a mark": b"(\x94.",
    "a mark that is returned": b"(.",
    "a mark within a tuple": b"N(\x85.",
    "POP_MARK without a mark": b"NN1.",
    "TUPLE without a mark": b"NNt.",
    "APPENDS to a mark": b"((e.",
    "DICT of an odd number": b"(NNNd.",
    "SETITEMS of an odd number": b"}(Nu.",
    "APPEND to a number": b"K\x01Na.",
    "SETITEM of a tuple": b")NNs.",
    "ADDITEMS to a list of strings": b"\x8c\x01x(N\x90.",
    "BUILD of a list": b"]Nb.",
    "BUILD of a number": b"K\x01}b.",
    "REDUCE with a list": named("os", "getcwd") + b"]R.",
    "REDUCE with a dictionary": named("os", "getcwd") + b"}R.",
    "NEWOBJ_EX with a list": named("os", "getcwd") + b")]\x92.",
    "NEWOBJ_EX with keys that are numbers": named("os", "getcwd") + b")" + push({1: 2}) + b"\x92.",
    "OBJ without a class": b"(o.",
    "STACK_GLOBAL of numbers": b"K\x01K\x02\x93.",
    "GLOBAL without an end": b"cos\nsystem",
    "GLOBAL of a line of 1 MB": b"c" + b"x" * 2**20 + b"\ny\n.",
    "GLOBAL of names that are not UTF-8": b"c\xff\xfe\n\xed\xa0\x80\n.",
    "GLOBAL of surrogates": b"\x8c\x03\xed\xa0\x80\x8c\x03\xed\xb0\x80\x93.",
    "GLOBAL of control characters": b"c\x1b[2J\x07\ros\n\x1b]0;x\x07\n.",
    "GLOBAL of nothing": b"c\n\n.",
    "STRING without quotation marks": b"Sabc\n.",
    "STRING of one quotation mark": b"S'\n.",
    "STRING with an unknown escape": b"S'\\q\\z'\n.",
    "STRING with an escape cut short": b"S'\\x1'\n.",
    "STRING with an octal escape above 255": b"S'\\777'\n.",
    "UNICODE with an escape cut short": b"V\\u12\n.",
    "UNICODE beyond Unicode": b"V\\U00ffffff\n.",
    "BINUNICODE that is not UTF-8": b"X\x02\x00\x00\x00\xff\xfe.",
    "BINUNICODE of a surrogate": b"X\x03\x00\x00\x00\xed\xa0\x80.",
    "BINPERSID of a list": b"]Q.",
    "PERSID that is not text": b"P\xff\xfe\n.",
    "opcode 0xff": b"\xff.",
    "opcode 0x00": b"\x00.",
    "opcode 0x99": b"\x99.",
    "protocol 255": b"\x80\xff\x80\xffN.",
    "protocol within": b"N\x80\x020N.",
    "nothing after the protocol": b"",
    "only the end": b".",
    "100,000 times None": b"N" * TINY_OPCODES + b".",
    "100,000 times None and POP": b"N0" * (TINY_OPCODES // 2) + b"N.",
    "100,000 short lines": b"I1\n" * TINY_OPCODES + b".",
    "50,000 names": b"ca\nb\n" * (TINY_OPCODES // 2) + b".",
    "100,000 protocols": b"\x80\x02" * TINY_OPCODES + b"N.",
    "100,000 memoized": b"N" + b"\x94" * TINY_OPCODES + b".",
    "100,000 empty calls": call("os.getcwd") + b")R" * (TINY_OPCODES // 2) + b".",
    "100,000 lists": b"]" * TINY_OPCODES + b".",
    "3,000,000 opcodes": b"N0" * 1_500_000 + b"N.",
}  # fmt: skip

CUTS = (1, 3, 4, 30, 0.25, 0.5, 0.75, 0.95, -100, -23, -1)


def cut(data: bytes, at: float) -> bytes:
    return data[: int(at * len(data)) if 0 < at < 1 else int(at)]


CASES: dict[str, Case] = {
    "an empty file": plain(b""),
    "one zero byte": plain(b"\0"),
    "a million zero bytes": plain(bytes(1_000_000)),
    "text": plain("Gérard's checkpoint\n".encode()),
    "a wrong magic number": plain(pickled(0x1950A86A20F9469CFC6D) + pickled(1001) + pickled({})),
    "only the magic number": plain(pickled(0x1950A86A20F9469CFC6C)),
    "an older file's parts of other types": plain(b"".join(map(pickled, (0x1950A86A20F9469CFC6C, [], [], {}, 5)))),
    "an older file's keys of other types": plain(b"".join(map(pickled, (0x1950A86A20F9469CFC6C, 1, {}, {}, [[], 5])))),
    "a pickle of a number": plain(pickled(7)),
    "a pickle of nothing": plain(pickled(None)),
    "a pickle of empty networks": plain(pickled((None, None, None))),
    "a checkpoint without tensors": plain(pickled({"g_ema": {}, "G_ema": {}, "generator": {}, "state_dict": {}})),
    "a checkpoint of numbers": plain(pickled({"g_ema": 1, "G_ema": 2, "generator": 3, "state_dict": 4})),
    "an archive of text": plain(torch_zip(b"Gerard's checkpoint", {})),
    "trailing garbage after a pickle": plain(lambda: VALID["ada pickle"]() + b"garbage", refused=False),
    "trailing garbage after an archive": plain(lambda: rosinality() + b"garbage", refused=False),
    "trailing garbage after an older file": plain(lambda: VALID["rosinality legacy"]() + b"garbage", refused=False),
    **{
        f"{name} cut at {at}": plain(lambda build=build, at=at: cut(build(), at))  # type: ignore[misc]
        for name, build in VALID.items()
        for at in CUTS
    },
    **{f"{name} on an empty stack": plain(b"\x80\x04" + code + STOP) for name, code in POPPING.items()},
    **{f"{name} on a mark": plain(b"\x80\x04N(" + code + STOP) for name, code in POPPING.items()},
    **{name: plain(b"\x80\x04" + code, costly="000,000 opcodes" in name) for name, code in RAW.items()},
    **{
        f"{name} in an archive": plain(torch_zip(b"\x80\x04" + code, {}))
        for name, code in RAW.items()
        if len(code) < 99
    },
}
