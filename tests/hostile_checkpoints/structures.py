"""Pickles whose structure is the attack: doubled, nested, circular or colliding values, in places that read them."""

import struct
from typing import Any

from tests.hostile_checkpoints.archives import torch_zip
from tests.hostile_checkpoints.case import Case, plain
from tests.hostile_checkpoints.layouts import ada, module, rosinality, tensor
from tests.hostile_checkpoints.opcodes import (
    STOP,
    Code,
    call,
    called,
    joined,
    named,
    ordered,
    persistent,
    pickled,
    push,
)

PUT, GET = b"r", b"j"
BEYOND_RECURSION = 5_000
DEEP = 30_000
VERY_DEEP = 1_000_000  # hashing a tuple that deep ends the interpreter


def put(index: int) -> bytes:
    return PUT + struct.pack("<I", index)


def get(index: int) -> Code:
    return Code(GET + struct.pack("<I", index))


def doubled(levels: int = 60, leaf: Any = "ha", kind: bytes = b"\x86", first: int = 1000) -> Code:
    """Billion laughs: a value that holds one twice that holds one twice ... kind: what makes two values one."""
    code = push(leaf) + put(first)
    for level in range(first, first + levels):
        code += b"0" + get(level) + get(level) + kind + put(level + 1)
    return Code(code)


def doubled_lists(levels: int = 60, leaf: Any = "ha") -> Code:
    code = push(leaf) + put(1000)
    for level in range(1000, 1000 + levels):
        code += b"0](" + get(level) + get(level) + b"e" + put(level + 1)
    return Code(code)


def nested_tuples(depth: int) -> Code:
    return Code(b")" + b"\x85" * depth)


def nested_lists(depth: int) -> Code:
    return Code(b"]" * depth + b"a" * (depth - 1))


def nested_calls(depth: int) -> Code:
    return Code(named("os", "system") + put(1) + b")R" + (b"\x85" + put(2) + b"0" + get(1) + get(2) + b"R") * depth)


def nested_dicts(depth: int) -> Code:
    return Code((b"}" + push("G_ema")) * depth + b"N" + b"s" * depth)


LAUGHS, LAUGHING_LISTS = doubled(), doubled_lists()
DEEP_TUPLE, DEEP_LIST = nested_tuples(BEYOND_RECURSION), nested_lists(BEYOND_RECURSION)
LIST_IN_ITSELF = Code(b"]" + put(7) + get(7) + b"a")
DICT_IN_ITSELF = Code(b"}" + put(7) + push("G_ema") + get(7) + b"s")
TUPLE_IN_ITSELF = Code(b"]" + put(7) + get(7) + b"\x85" + put(8) + b"a0" + get(8))
STATE_OF_ITSELF = Code(call("types.SimpleNamespace") + put(7) + get(7) + b"b")
CALL_OF_ITSELF = Code(b"](" + put(7) + get(7) + b"t" + put(8) + b"0" + get(7) + get(8) + b"R")
STORAGE_OF_ITSELF = Code(
    b"]" + put(7) + persistent(("storage", named("torch", "FloatStorage"), get(7), "cpu", 4)) + put(8) + b"a0" + get(8)
)

STRANGE: dict[str, Code] = {
    "a doubled tuple": LAUGHS,
    "a doubled list": LAUGHING_LISTS,
    "a tuple 5,000 deep": DEEP_TUPLE,
    "a list 5,000 deep": DEEP_LIST,
    "a list in itself": LIST_IN_ITSELF,
    "an integer of 2,400 digits": push(10**2400),
    "calls 2,000 deep": nested_calls(2_000),
    "a call without a name": called(push([])),
    "text of control characters": push("\x1b[2J\x07\n\ud800" * 9),
}


def in_every_place(what: str, code: Code) -> dict[str, Case]:
    """Cases with this value wherever a reader looks at one, or would show one in a message."""
    meta = {"class_name": code}
    one = "style.1.weight"
    places = {
        "the file": lambda: pickled(code),
        "g_ema": lambda: rosinality(top={"g_ema": code}),
        "G_ema": lambda: ada(top={"G_ema": code}),
        "a tensor": lambda: rosinality({one: code}),
        "a shape": lambda: rosinality({one: tensor(a_storage(), (code, 4), steps=(4, 1))}),
        "strides": lambda: rosinality({one: tensor(a_storage(), (4, 4), steps=(code, 1))}),
        "an offset": lambda: rosinality({one: tensor(a_storage(), (4, 4), offset=code)}),
        "a storage": lambda: rosinality({one: tensor(code, (4, 4))}),
        "a storage's id": lambda: rosinality({one: tensor(persistent(code), (4, 4))}),
        "a storage's key": lambda: rosinality({one: tensor(a_storage(key=code), (4, 4))}),
        "a storage's size": lambda: rosinality({one: tensor(a_storage(count=code), (4, 4))}),
        "a callee": lambda: rosinality({one: called(code, 1)}),
        "a callee of g_ema": lambda: rosinality(top={"g_ema": called(code, 1)}),
        "a nested file": lambda: rosinality({one: tensor(call("torch.storage._load_from_bytes", code), (4, 4))}),
        "a class name": lambda: ada(metas={"mapping": meta}),
        "a network's meta": lambda: ada({"mapping": call("torch_utils.persistence._reconstruct_persistent_obj", code)}),
        "a resolution": lambda: ada(extra={"": {"img_resolution": code}}),
        "an attribute": lambda: ada(extra={"synthesis.b8.conv0": {"activation": code}}),
        "a clamp": lambda: ada(extra={"synthesis.b8.conv0": {"conv_clamp": code}}),
        "keyword settings": lambda: ada(extra={"": {"_init_kwargs": code, "z_dim": code, "w_dim": code}}),
    }
    unread = ("a class name", "a resolution", "keyword settings")  # the tensors say it all
    return {f"{what} as {place}": plain(build, refused=place not in unread) for place, build in places.items()}


def a_storage(key: Any = "000", count: Any = 16) -> Code:
    return persistent(("storage", named("torch", "FloatStorage"), key, "cpu", count))


def colliding_keys(count: int) -> Code:
    """A dictionary whose integer keys all have one hash: filling it takes quadratic time."""
    return Code(b"}(" + b"".join(push(i * (2**61 - 1)) + b"N" for i in range(1, count + 1)) + b"u")


def network_below_itself(children: dict[str, Any]) -> Code:
    state = {"_parameters": ordered({}), "_buffers": ordered({}), "_modules": ordered(children)}
    return module("", {}, state, "", {})


def fanned_out(levels: int, width: int) -> Code:
    """Networks that each hold the one below `width` times: width ** levels by name, a few thousand opcodes."""
    code = bytes(network_below_itself({}) + put(500))
    for level in range(500, 500 + levels):
        children = {f"m{i}": get(level) for i in range(width)}
        code += b"0" + network_below_itself(children) + put(level + 1)
    return Code(code)


def own_child() -> Code:
    """A network that is one of its own modules."""
    modules = Code(call("collections.OrderedDict") + put(600))
    state = {"_parameters": ordered({}), "_buffers": ordered({}), "_modules": modules}
    network = module("", {}, state, "", {})
    return Code(network + put(601) + b"0" + get(600) + push("again") + get(601) + b"s0" + get(601))


CASES: dict[str, Case] = {
    **{name: case for what, code in STRANGE.items() for name, case in in_every_place(what, code).items()},
    "a doubled tuple as a key": plain(pickled({LAUGHS: 1})),
    "a doubled tuple in a set": plain(b"\x80\x04\x8f(" + LAUGHS + b"\x90" + STOP),
    "a doubled tuple in a frozen set": plain(b"\x80\x04(" + LAUGHS + b"\x91" + STOP),
    "doubled frozen sets": plain(b"\x80\x04" + doubled(kind=b"\x86(" + b"N" + b"\x91\x86") + STOP),
    "a doubled tuple as a module's name": plain(b"\x80\x04" + LAUGHS + push("x") + b"\x93" + STOP),
    "doubled tuples that are compared": plain(pickled({LAUGHS: 1, doubled(first=2000): 2})),
    "doubled text": plain(pickled(doubled(60, "ha" * 1000))),
    "a tuple 1,000,000 deep as a key": plain(lambda: pickled({nested_tuples(VERY_DEEP): 1}), costly=True),
    "a tuple 1,000,000 deep in a set": plain(
        lambda: b"\x80\x04\x8f(" + nested_tuples(VERY_DEEP) + b"\x90" + STOP, costly=True
    ),
    "a tuple 1,000,000 deep as a callee": plain(
        lambda: rosinality(top={"g_ema": called(nested_tuples(VERY_DEEP))}), costly=True
    ),
    "a tuple 30,000 deep": plain(lambda: pickled(nested_tuples(DEEP))),
    "a list 30,000 deep": plain(lambda: pickled(nested_lists(DEEP)), costly=True),
    "calls 30,000 deep": plain(lambda: pickled({"G_ema": nested_calls(DEEP)}), costly=True),
    "dictionaries 30,000 deep": plain(lambda: pickled(nested_dicts(DEEP))),
    "30,000 marks": plain(b"\x80\x02" + b"(" * DEEP + STOP),
    "30,000 marks closed to tuples": plain(b"\x80\x02" + b"(" * DEEP + b"t" * DEEP + STOP, costly=True),
    "persistent ids 30,000 deep": plain(b"\x80\x02N" + b"Q" * DEEP + STOP),
    "parameters 1,000 deep": plain(
        lambda: rosinality(
            {"style.1.weight": Code((named("torch._utils", "_rebuild_parameter") + b"(") * 1000 + b"N" + b"tR" * 1000)}
        )
    ),
    "a dictionary in itself": plain(pickled(DICT_IN_ITSELF)),
    "a tuple in itself": plain(pickled(TUPLE_IN_ITSELF)),
    "a state that is its own object": plain(pickled(STATE_OF_ITSELF)),
    "a call of itself on itself": plain(b"\x80\x02" + CALL_OF_ITSELF + STOP),
    "a storage whose id holds itself": plain(lambda: rosinality({"style.1.weight": tensor(STORAGE_OF_ITSELF, (4, 4))})),
    "a state dict in itself": plain(torch_zip(pickled({"g_ema": DICT_IN_ITSELF}), {})),
    "a network below itself": plain(lambda: ada(top={"G_ema": own_child()})),
    "a network 10 levels of 40 deep": plain(lambda: ada(top={"G_ema": fanned_out(10, 40)})),
    "a network 60 levels of 2 deep": plain(lambda: ada(top={"G_ema": fanned_out(60, 2)})),
    "a network 1,500 levels deep": plain(lambda: ada(top={"G_ema": fanned_out(1500, 1)})),
    "100,000 integer keys of one hash": plain(lambda: pickled({"g_ema": colliding_keys(100_000)})),
    "40 dictionaries of 9,000 keys of one hash": plain(
        lambda: pickled([colliding_keys(9_000) for _ in range(40)]), costly=True
    ),
    "a set of lists": plain(b"\x80\x04\x8f(" + joined([[]]) + b"\x90" + STOP),
    "a dictionary as a key": plain(pickled({push({}): 1})),
    "a key of 1,000,000 characters": plain(lambda: rosinality({"x" * 1_000_000: push(1), "y" * 1_000_000: a_tensor()})),
    "a module's name of 60,000 characters": plain(lambda: rosinality({"style.1.weight": call("x" * 60_000 + ".y", 1)})),
}


def a_tensor() -> Code:
    return tensor(a_storage(), (4, 4))
