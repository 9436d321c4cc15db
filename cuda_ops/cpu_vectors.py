"""Vectors for CPU kernels: several numbers in one value, which stays in registers from one pixel to the next.

numba knows single numbers only and leaves vectors to LLVM, which makes them of a loop's turns, so that no vector
outlives its loop. These are LLVM's vector values themselves; one that is wider than the processor's registers takes
several. After a change see cpu_numbers.py.
"""

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model

from cuda_ops.cpu_numbers import narrowed, widened


class Vector(types.Type):
    """`lanes` numbers of a type, float32 or float64."""

    def __init__(self, number: types.Float, lanes: int) -> None:
        self.number, self.lanes = number, lanes
        super().__init__(name=f"Vector({number}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        number = ir.DoubleType() if vector.number == types.float64 else ir.FloatType()
        super().__init__(manager, vector, ir.VectorType(number, vector.lanes))


def _spread(builder, number, form):
    """The vector whose every lane is a number."""
    undefined = ir.Constant(form, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), form.count), None))


@intrinsic(prefer_literal=True)
def vector(typing, number, lanes):
    """A number, float32 or float64, in each of `lanes` lanes, a constant."""
    if not isinstance(lanes, types.IntegerLiteral):
        raise TypingError("the number of lanes must be known when the kernel is compiled")

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], context.get_value_type(signature.return_type))

    return Vector(number, lanes.literal_value)(number, lanes), generate


@intrinsic
def vector_like(typing, number, like):
    """A number in every lane of a vector like another."""

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], arguments[1].type)

    return like(like.number, like), generate


@intrinsic
def load_vector(typing, place, i, like):
    """place[i:i + lanes], as a vector like another; of uint16 these are bfloat16, and become float32."""

    def generate(context, builder, signature, arguments):
        start, form = builder.gep(arguments[0], [arguments[1]]), arguments[2].type
        element = ir.VectorType(start.type.pointee, form.count)
        value = builder.load(builder.bitcast(start, element.as_pointer()), align=place.dtype.bitwidth // 8)
        return widened(builder, value) if place.dtype == types.uint16 else value

    return like(place, types.int64, like), generate


def _store(builder, arguments, number):
    """The instruction that stores a vector at place[i], rounded to bfloat16 if `number` is uint16."""
    place, i, numbers = arguments
    if number == types.uint16:
        numbers = narrowed(builder, numbers)
    start = builder.bitcast(builder.gep(place, [i]), numbers.type.as_pointer())
    return builder.store(numbers, start, align=number.bitwidth // 8)


@intrinsic
def store_vector(typing, place, i, value):
    """place[i:i + lanes] = value; of uint16 it is rounded to bfloat16."""

    def generate(context, builder, signature, arguments):
        _store(builder, arguments, place.dtype)
        return context.get_dummy_value()

    return types.void(place, types.int64, value), generate


@intrinsic
def stream_vector(typing, place, i, value):
    """As store_vector, but past the cache; the address must be a multiple of 64 and of the vector's bytes, if these are
    fewer. See `complete`.
    """

    def generate(context, builder, signature, arguments):
        instruction = _store(builder, arguments, place.dtype)
        instruction.align = min(arguments[2].type.count * place.dtype.bitwidth // 8, 64)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(place, types.int64, value), generate


@intrinsic
def complete(typing):
    """What this thread stored past the cache is there for other threads before anything it does later."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def prefetch(typing, place, i):
    """place[i] will soon be read; any address may be named."""

    def generate(context, builder, signature, arguments):
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte)
        builder.call(function, [address, ir.Constant(word, 0), ir.Constant(word, 2), ir.Constant(word, 1)])
        return context.get_dummy_value()

    return types.void(place, types.int64), generate


@intrinsic
def product(typing, v, w):
    """v * w."""

    def generate(context, builder, signature, arguments):
        return builder.fmul(*arguments)

    return v(v, v), generate


@intrinsic
def add_product(typing, total, v, w):
    """total + v * w, in one rounding where the processor does it in one.

    Said as one operation, for of two products and a sum LLVM would join the sum with one or the other, as it likes.
    """

    def generate(context, builder, signature, arguments):
        form = arguments[0].type
        bits = 64 if form.element == ir.DoubleType() else 32
        kind = ir.FunctionType(form, [form] * 3)
        function = get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{form.count}f{bits}")
        return builder.call(function, [arguments[1], arguments[2], arguments[0]])

    return v(v, v, v), generate
