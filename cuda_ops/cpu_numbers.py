"""What CPU kernels need below numba's arrays: pointers, bfloat16, and a counter that threads share.

A pointer p is made by `pointer`; p[i] and p[i] = value are the plain memory. Arrays would have every index checked for
its sign, and their parts made with care, which costs as much as a short row of an image.

numba keeps a compiled kernel for as long as the kernel's own file stays the same: after a change here, or in
cpu_vectors.py or cpu_parameters.py, delete the *.nbi and *.nbc in __pycache__.
"""

import numpy as np
import torch
from llvmlite import ir
from numba import config, njit, types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic, overload

# what a kernel finds in memory, and what it computes in: a bfloat16 is read as its bits
NUMBERS = {
    torch.float32: (np.float32, np.float32),
    torch.float64: (np.float64, np.float64),
    torch.bfloat16: (np.uint16, np.float32),
}
WORD = ir.IntType(32)


@intrinsic
def pointer(typing, address, dtype):
    """The pointer to numbers of a dtype, np.float32 for one, at an address."""
    kind = types.CPointer(dtype.dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64, dtype), generate


@intrinsic
def shift(typing, place, count):
    """The pointer `count` numbers further on."""

    def generate(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return place(place, types.int64), generate


@intrinsic
def take(typing, counter):
    """The int64 at a pointer, which grows by 1: every thread gets another number."""

    def generate(context, builder, signature, arguments):
        return builder.atomic_rmw("add", arguments[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), generate


def _each(number, like):
    """A number's type; if `like` is a vector's, that of a vector of as many such numbers."""
    return ir.VectorType(number, like.count) if isinstance(like, ir.VectorType) else number


def _constant(value, form):
    """A number of a type, in every lane of a vector's."""
    return ir.Constant(form, [value] * form.count if isinstance(form, ir.VectorType) else value)


def widened(builder, bits):
    """LLVM's float of a bfloat16's bits, for one number or a vector."""
    word, number = _each(WORD, bits.type), _each(ir.FloatType(), bits.type)
    return builder.bitcast(builder.shl(builder.zext(bits, word), _constant(16, word)), number)


@intrinsic
def from_bfloat16(typing, bits):
    """uint16 -> float32."""

    def generate(context, builder, signature, arguments):
        return widened(builder, arguments[0])

    return types.float32(types.uint16), generate


class _BFloat16(ir.Type):
    """LLVM's type, which llvmlite doesn't name."""

    def _to_string(self):
        return "bfloat"

    def __eq__(self, other):
        return isinstance(other, _BFloat16)

    def __hash__(self):
        return hash(_BFloat16)


def _narrowed_by_instruction(builder, value):
    return builder.bitcast(builder.fptrunc(value, _each(_BFloat16(), value.type)), _each(ir.IntType(16), value.type))


def _narrowed_by_integers(builder, value):
    word = _each(WORD, value.type)
    bits = builder.bitcast(value, word)
    odd = builder.and_(builder.lshr(bits, _constant(16, word)), _constant(1, word))
    rounded = builder.lshr(builder.add(builder.add(bits, _constant(0x7FFF, word)), odd), _constant(16, word))
    is_nan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(is_nan, _constant(0x7FC0, word), rounded), _each(ir.IntType(16), value.type))


@intrinsic
def round_by_instruction(typing, value):
    """float32 -> uint16, where the processor does it; a number below 2^-126 becomes 0."""

    def generate(context, builder, signature, arguments):
        return _narrowed_by_instruction(builder, arguments[0])

    return types.uint16(types.float32), generate


@intrinsic
def round_by_integers(typing, value):
    """float32 -> uint16, to the nearest, ties to even; NaN stays NaN."""

    def generate(context, builder, signature, arguments):
        return _narrowed_by_integers(builder, arguments[0])

    return types.uint16(types.float32), generate


def rounds_by_instruction() -> bool:
    """Whether numba compiles for processors that round to bfloat16: its environment may forbid it."""
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return {"+avx512bf16", "+avx512vl"} <= set(features.split(","))


# one operation or eight, of a short kernel's twenty
BY_INSTRUCTION = rounds_by_instruction()
to_bfloat16 = round_by_instruction if BY_INSTRUCTION else round_by_integers


def narrowed(builder, value):
    """The bits of the bfloat16 nearest to LLVM's float, for one number or a vector; as `to_bfloat16` rounds."""
    return (_narrowed_by_instruction if BY_INSTRUCTION else _narrowed_by_integers)(builder, value)


def load(place, i):
    """place[i]; of uint16 it is a bfloat16, and becomes float32."""
    raise NotImplementedError("compiled code only")


@overload(load, inline="always")
def _(place, i):
    if place.dtype == types.uint16:
        return lambda place, i: from_bfloat16(place[i])
    return lambda place, i: place[i]


def store(place, i, value):
    """place[i] = value; of uint16 it is rounded to bfloat16."""
    raise NotImplementedError("compiled code only")


@overload(store, inline="always")
def _(place, i, value):
    if place.dtype == types.uint16:

        def rounded(place, i, value):
            place[i] = to_bfloat16(value)

        return rounded

    def plain(place, i, value):
        place[i] = value

    return plain


@njit
def hold(memory):
    """numba frees an array after the last line that names it."""
