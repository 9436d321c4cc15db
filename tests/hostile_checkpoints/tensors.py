"""Tensors that lie about their storage, storages that lie about the file, and sizes nobody has memory for."""

from typing import Any

from tests.hostile_checkpoints.archives import torch_legacy, torch_zip
from tests.hostile_checkpoints.calls import state_of
from tests.hostile_checkpoints.case import Case, plain
from tests.hostile_checkpoints.layouts import ada, blob_storage, rosinality, storage_id, strides, tensor
from tests.hostile_checkpoints.opcodes import Code, call, called, named, ordered, pickled, push
from tests.hostile_checkpoints.structures import get, put

ONE = "style.1.weight"  # of 4 x 4 numbers, in the storage "000"
HERE = storage_id("000", 16)
MANY = 1_000
LARGE = 2**24  # bytes


def misread(shape: Any, offset: Any = 0, steps: Any = None, storage: Code = HERE) -> Case:
    """A valid file but for one tensor's view of its storage."""
    return plain(lambda: rosinality({ONE: tensor(storage, shape, offset, steps)}))


def array(shape: Any, raw: Any, kind: Any = "f4", order: str = "<", fortran: bool = False) -> Code:
    """A NumPy array."""
    made = call("numpy.core.multiarray._reconstruct", named("numpy", "ndarray"), (0,), b"b")
    dtype = state_of(call("numpy.dtype", kind, False, True), (3, order, None, None, None, -1, -1, 0))
    return state_of(made, (1, shape, dtype, fortran, raw))


def shared(what: Code, each: Code) -> bytes:
    """A state dict whose first entry puts a value into the memo, and whose others are each made from it."""
    entries = {"first": Code(what + put(900))} | {f"t{i}": each for i in range(MANY)}
    return pickled({"g_ema": ordered(rosinality_marks() | entries)})


def rosinality_marks() -> dict[str, Any]:
    return {"conv1.conv.modulation.weight": None}


def sharing_a_storage() -> bytes:
    large = storage_id("0", LARGE // 4)
    return torch_zip(shared(large, tensor(get(900), (LARGE // 4,))), {"0": bytes(LARGE)})


def sharing_a_blob() -> bytes:
    return torch_zip(shared(blob_storage(bytes(LARGE)), tensor(get(900), (LARGE // 4,))), {})


def sharing_text(nested: bool) -> bytes:
    """The bytes as text to be encoded, as protocol 2 has them; each use would encode it again."""
    blob = torch_legacy(pickled(storage_id("0", LARGE // 4, None)), {"0": bytes(LARGE)}) if nested else bytes(LARGE)
    raw = called(named("_codecs", "encode"), get(900), "latin1")
    load = called(named("torch.storage", "_load_from_bytes"), raw)
    each = tensor(load, (LARGE // 4,)) if nested else array((LARGE // 4,), raw)
    return torch_zip(shared(push(blob.decode("latin-1")), each), {})


def empty_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, Code]:
    return {name: tensor(HERE, shape, steps=(1,) * len(shape)) for name, shape in shapes.items()}


def wide_network() -> bytes:
    """Tensors of no numbers, whose shapes ask for a network of half a terabyte."""
    wide: dict[str, tuple[int, ...]] = {
        f"{name}.conv.weight": (1, 65536, 0, 3, 3) for name in ("conv1", *(f"convs.{i}" for i in range(4)))
    }
    return rosinality(empty_tensors(wide))


def deep_mapping() -> bytes:
    return rosinality(empty_tensors({f"style.{i}.weight": (65536, 0) for i in range(1, 65)}))


def endless_network() -> bytes:
    """Convolutions up to a resolution of 3,000 digits."""
    return rosinality(empty_tensors({f"convs.{i}.conv.weight": (1, i % 7, 0, 3, 3) for i in range(19_000)}))


def in_tensorflow(value: Any) -> Code:
    network = Code(call("dnnlib.tflib.network.Network") + push({
        "version": 4, "name": "Gs", "static_kwargs": {"resolution": 16}, "components": {},
        "build_module_src": "", "build_func_name": "G_main", "variables": [("dlatent_avg", value)],
    }) + b"b")  # fmt: skip
    return push((None, None, network))


CASES: dict[str, Case] = {
    "a shape larger than its storage": misread((4, 5)),
    "strides that leave the storage": misread((4, 4), steps=(5, 1)),
    "an offset beyond the storage": misread((4, 4), 1),
    "a negative offset": misread((4, 4), -1),
    "a negative size": misread((-4, 4)),
    "two negative sizes": misread((-4, -4)),
    "negative strides": misread((4, 4), 15, (-4, -1)),
    "a size of 2**63": misread((2**63, 1)),
    "sizes whose product wraps around to 16": misread((2**62 + 4, 4)),
    "a stride of 2**62": misread((4, 4), steps=(2**62, 1)),
    "a stride that wraps around": misread((5, 4), steps=(2**62, 1)),
    "an offset of 2**64": misread((4, 4), 2**64),
    "one number expanded to 2**40": misread((2**20, 2**20), steps=(0, 0)),
    "one number expanded to what is expected": misread((4, 4), steps=(0, 0), storage=storage_id("gone", 1)),
    "one number expanded over 30 dimensions": misread((2,) * 30, steps=(0,) * 30),
    "64 dimensions": misread((1,) * 64),
    "100,000 dimensions": misread((1,) * 100_000, steps=(1,) * 100_000),
    "no numbers in 2**40 rows": misread((2**40, 0), steps=(1, 1)),
    "no numbers in 8 huge dimensions": misread((2**40,) * 7 + (0,), steps=(2**40,) * 8),
    "fewer strides than sizes": misread((4, 4), steps=(1,)),
    "a shape that is a list": misread([4, 4], steps=[4, 1]),
    "a shape of fractions": misread((4.0, 4.0), steps=(4.0, 1.0)),
    "a shape of infinity": misread((float("inf"), 4), steps=(4, 1)),
    "a shape of truth values": misread((True, True), steps=(True, True)),
    "a storage of more numbers than the file": misread((4, 4), storage=storage_id("000", 2**40)),
    "a storage of a negative number": misread((4, 4), storage=storage_id("000", -1)),
    "a storage of a fraction": misread((4, 4), storage=storage_id("000", 16.0)),
    "a storage that is missing": misread((4, 4), storage=storage_id("999", 16)),
    "a storage whose key is a path": misread((4, 4), storage=storage_id("../../../../etc/hostname", 1)),
    "a storage whose key is a number": misread((4, 4), storage=storage_id(22, 16)),
    "a storage of a type that is none": misread((4, 4), storage=storage_id("000", 16, kind="ModuleStorage")),
    "a storage of longer numbers": misread((4, 4), storage=storage_id("000", 16, kind="LongStorage")),
    "a storage of complex numbers": misread((4, 4), storage=storage_id("000", 8, kind="ComplexFloatStorage")),
    "numbers that overflow single precision": plain(
        lambda: rosinality({ONE: array((4, 4), b"\xff\xff\xff\xff\xff\xff\xef\x7f" * 16, "f8")}), inspected=False
    ),
    "numbers that are not": plain(lambda: rosinality({ONE: array((4, 4), b"\x00\x00\xc0\x7f" * 16)}), inspected=False),
    "an older file's storage beyond its end": plain(
        lambda: torch_legacy(pickled(storage_id("0", 4, None)), {"0": bytes(16)}).replace(
            b"\x04" + bytes(7) + bytes(16), b"\x00\x00\x00\x00\x00\x00\x00\x20" + bytes(16)
        )
    ),
    "an older file's storage of negative size": plain(
        lambda: torch_legacy(pickled(storage_id("0", 4, None)), {"0": bytes(16)}).replace(
            b"\x04" + bytes(7) + bytes(16), b"\xff" * 8 + bytes(16)
        )
    ),
    "a legacy file's view of a storage": plain(
        lambda: torch_legacy(pickled({"g_ema": storage_id("0", 4, ("1", 2**62, 4))}), {"0": bytes(16)})
    ),
    "an array of text beyond Latin-1": plain(lambda: rosinality({ONE: array((4, 4), "\u20ac" * 64)})),
    "an array of 2,000 huge dimensions": plain(lambda: rosinality({ONE: array((2**8000,) * 2_000, bytes(64))})),
    "an array of 100,000 dimensions": plain(lambda: rosinality({ONE: array((1,) * 100_000, bytes(64))})),
    "an array of a negative size": plain(lambda: rosinality({ONE: array((-1, -16), bytes(64))})),
    "an array of text": plain(lambda: rosinality({ONE: array((4, 4), bytes(64), "U1")})),
    "an array of records": plain(lambda: rosinality({ONE: array((4, 4), bytes(64), [("a", "O8")])})),
    "an array whose type is a doubled list": plain(
        lambda: rosinality({ONE: array((4, 4), bytes(64), [["f4"] * 2] * 2)})
    ),
    "an array without numbers": plain(lambda: rosinality({ONE: array((4, 4), b"")})),
    "a TensorFlow variable of objects": plain(lambda: pickled(in_tensorflow(array((1,), [call("os.abort")], "O8")))),
    "a TensorFlow variable that is huge": plain(lambda: pickled(in_tensorflow(array((2**40, 2**40), b"")))),
    "a TensorFlow variable that is none": plain(lambda: pickled(in_tensorflow(call("os.abort")))),
    "1,000 tensors on one storage of 16 MB": plain(sharing_a_storage, costly=True),
    "1,000 tensors on one nested file of 16 MB": plain(sharing_a_blob, costly=True),
    "1,000 tensors on one nested file of 16 MB as text": plain(lambda: sharing_text(nested=True), costly=True),
    "1,000 arrays on one text of 16 MB": plain(lambda: sharing_text(nested=False), costly=True),
    "shapes that ask for half a terabyte": plain(wide_network, costly=True),
    "64 mapping layers of 65,536 units": plain(deep_mapping, costly=True),
    "convolutions of endless resolution": plain(endless_network, costly=True),
    "20,001 entries in a state dict": plain(lambda: rosinality({f"t{i}": push(i) for i in range(20_001)})),
    "settings for 64 mapping layers of 65,536 units": plain(
        lambda: ada({f"mapping.fc{i}.weight": tensor(blob_storage(b""), (65536, 0), steps=(1, 1)) for i in range(2)}),
        costly=True,
    ),
    "a state dict whose settings are text": plain(
        lambda: state_of_ada({"synthesis_kwargs": "conv_clamp"})
    ),
    "a state dict whose settings are a number": plain(lambda: state_of_ada({"synthesis_kwargs": 7})),
    "a state dict whose settings are none": plain(lambda: state_of_ada({"synthesis_kwargs": None})),
    "a state dict whose discriminator's settings are text": plain(
        lambda: state_of_ada({"conv_clamp": 1.0}, {"epilogue_kwargs": "mbstd_group_size"})
    ),
}  # fmt: skip


def state_of_ada(settings: dict[str, Any], discriminator: dict[str, Any] | None = None) -> bytes:
    """A plain state dict of stylegan2-ada-pytorch's names, with these settings."""
    names = ("synthesis.b4.const", "synthesis.b4.conv1.weight", "synthesis.b8.conv1.weight", "mapping.fc0.weight")
    shapes = ((4, 4, 4), (4, 4, 3, 3), (4, 4, 3, 3), (4, 4))
    entries = {n: tensor(storage_id("0", 144), s, steps=strides(s)) for n, s in zip(names, shapes, strict=True)}
    value = {"G_ema": ordered(entries), "init_kwargs": settings, "D": ordered(entries)}
    return torch_zip(pickled(value | {"D_init_kwargs": discriminator}), {"0": bytes(576)})
