"""Tensors of foreign checkpoints where they lie in the file: shape and type first, numbers only when asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from generator.importers.pickled import Call, Global, PersistentId, described

MOST_DIMENSIONS = 8
LARGEST_SIZE = 2**40
DEEPEST_WRAPPING = 4  # a parameter of a parameter of ...

# Storage and tensor types by their name in torch, as NumPy types; bfloat16, which NumPy lacks, by its bits.
TORCH_TYPES = {
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "BFloat16": "<u2",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "|i1",
    "Byte": "|u1",
    "Bool": "|b1",
}
SCALAR_TYPES = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


def numpy_size(kind: str) -> int:
    """Bytes of one number of a torch storage."""
    return np.dtype(TORCH_TYPES[kind]).itemsize


@dataclass(frozen=True)
class Storage:
    """Raw numbers. type: a key of TORCH_TYPES, or a NumPy type such as <f4."""

    data: memoryview
    type: str


class Storages(Protocol):
    """What finds the storage that a persistent id names, or one that lies inside a byte string."""

    def find(self, persistent_id: Any) -> Storage:
        """The storage of a torch persistent id."""
        ...

    def inside(self, data: bytes | memoryview) -> Storage:
        """The storage in bytes that torch.save wrote."""
        ...

    def encoded(self, text: str) -> bytes:
        """The bytes that old protocols write as Latin-1 text, made once."""
        ...


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its numbers are read by `read`. Strides and offset count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        for value in (self.offset, *self.shape[: MOST_DIMENSIONS + 1], *self.strides[: MOST_DIMENSIONS + 1]):
            if type(value) is not int or not 0 <= value <= LARGEST_SIZE:
                raise ValueError(
                    f"found a tensor with {described(value)} as size, stride or offset, expected 0 or more"
                )
        if len(self.shape) != len(self.strides) or len(self.shape) > MOST_DIMENSIONS:
            raise ValueError(f"found a tensor of {len(self.shape)} dimensions and {len(self.strides)} strides")
        available = len(self.storage.data) // self.numpy_type.itemsize
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        count: int = math.prod(self.shape)
        if count > available or (count and last >= available):
            raise ValueError(
                f"found a tensor of shape {list(self.shape)} that leaves its storage of {available:,} numbers"
            )

    @property
    def numpy_type(self) -> np.dtype:
        """The type of a number in the file."""
        return np.dtype(TORCH_TYPES.get(self.storage.type, self.storage.type))

    @property
    def type_name(self) -> str:
        """The type's usual name: float32, bfloat16, ..."""
        return "bfloat16" if self.storage.type == "BFloat16" else self.numpy_type.name

    def read(self) -> Tensor:
        """The numbers in float32, in memory of their own."""
        itemsize = self.numpy_type.itemsize
        numbers = np.frombuffer(self.storage.data, self.numpy_type, len(self.storage.data) // itemsize)[self.offset :]
        strides = [stride * itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)
        if self.storage.type == "BFloat16":
            return torch.from_numpy(view.astype(np.int32) << 16).view(torch.float32)
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, which is refused
            return torch.from_numpy(view.astype(np.float32, copy=True, order="C"))


def stored_tensor(value: Any, storages: Storages) -> StoredTensor | None:
    """The tensor that a pickled value stands for, or None where it is none.

    Raises ValueError for one that is malformed, leaves its storage, or has a type without numbers.
    """
    for _ in range(DEEPEST_WRAPPING):
        if not isinstance(value, Call) or not isinstance(value.callee, Global):
            return None
        module, name = value.callee.module, value.callee.name
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            value = _first(value)
        elif module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            return _torch_tensor(value, storages)
        elif module in NUMPY_MODULES:
            return _numpy_array(value, storages)
        else:
            return None
    raise ValueError("found a parameter within a parameter, expected a tensor")


def _first(call: Call) -> Any:
    if not call.args:
        raise ValueError(f"found a call of {call.callee.name} without arguments, expected a tensor")
    return call.args[0]


def _torch_tensor(call: Call, storages: Storages) -> StoredTensor:
    if len(call.args) < 4:
        raise ValueError(f"found {len(call.args)} arguments of {call.callee.name}, expected 4 or more")
    source, offset, shape, strides = call.args[:4]
    if type(shape) is not tuple or type(strides) is not tuple:
        raise ValueError("found a tensor whose shape is not a tuple, expected sizes and strides")
    storage = find_storage(source, storages)
    if call.callee.name == "_rebuild_tensor_v3":
        scalar_type = call.args[6] if len(call.args) > 6 else None
        known = SCALAR_TYPES.get(scalar_type.name) if isinstance(scalar_type, Global) else None
        if known is None:
            raise ValueError(
                f"found a tensor of type {described(scalar_type)}, expected one of {', '.join(SCALAR_TYPES)}"
            )
        storage = Storage(storage.data, known)
    return StoredTensor(storage, offset, shape, strides)


def find_storage(source: Any, storages: Storages) -> Storage:
    """The storage that a persistent id or a `_load_from_bytes` call stands for."""
    if isinstance(source, PersistentId):
        return storages.find(source.value)
    if isinstance(source, Call) and source.callee == Global("torch.storage", "_load_from_bytes"):
        data = as_bytes(_first(source), storages)
        if data is not None:
            return storages.inside(data)
    raise ValueError("found a tensor without a storage, expected a reference to one")


# ---------------------------------------------------------------- NumPy

NUMPY_MODULES = (
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
)


def _numpy_array(call: Call, storages: Storages) -> StoredTensor | None:
    if call.callee.name == "_reconstruct":
        if len(call.state) != 1 or type(call.state[0]) is not tuple or len(call.state[0]) != 5:
            raise ValueError("found a NumPy array without its state, expected shape, type and numbers")
        _, shape, kind, fortran, raw = call.state[0]
    elif call.callee.name == "_frombuffer" and len(call.args) == 4:
        raw, kind, shape, order = call.args
        fortran = order == "F"
    elif call.callee.name == "scalar" and len(call.args) == 2:
        (kind, raw), shape, fortran = call.args, (), False
    else:
        return None
    data = as_bytes(raw, storages)
    if data is None:
        raise ValueError("found a NumPy array of Python objects, expected numbers")
    if type(shape) is not tuple or len(shape) > MOST_DIMENSIONS or not all(type(size) is int for size in shape):
        raise ValueError(f"found a NumPy array with {described(shape)} as its shape, expected a few whole numbers")
    return StoredTensor(Storage(memoryview(data), numpy_type(kind)), 0, shape, _strides(shape, bool(fortran)))


def numpy_type(value: Any) -> str:
    """The NumPy type that a pickled dtype stands for, such as <f4. Raises ValueError for one without numbers."""
    if isinstance(value, Call) and value.callee == Global("numpy", "dtype") and value.args:
        name, order = value.args[0], "<"
        if value.state and type(value.state[0]) is tuple and len(value.state[0]) > 1:
            order = value.state[0][1]
        if type(name) is str and name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            return (">" if order == ">" else "<") + name
    raise ValueError("found a NumPy array of another type than numbers, expected floating point or integers")


def as_bytes(value: Any, storages: Storages) -> bytes | memoryview | None:
    """The bytes that a pickled value stands for: protocols below 3 write them as text to be encoded."""
    if isinstance(value, bytes | memoryview):
        return value
    if isinstance(value, Call) and value.callee == Global("_codecs", "encode") and value.args[1:] == ("latin1",):
        value = value.args[0]
    return storages.encoded(value) if isinstance(value, str) else None


def _strides(shape: Sequence[int], fortran: bool) -> tuple[int, ...]:
    sizes = list(shape) if fortran else list(shape)[::-1]
    strides = [math.prod(sizes[:i]) for i in range(len(sizes))]
    return tuple(strides if fortran else strides[::-1])
