"""Vectors of 16, 32 or 64 numbers, and the few operations on them that the kernels need.

Numba compiles loops, and LLVM makes vector instructions of some of them; of those that fire neurons, list
spikes or add up rows of weights it does not. So these are operations on types of their own, which LLVM lowers
to the instructions of whatever processor there is. Numbers are of float32; in networks of integers of int16,
where rows of int8 weights are added up, and of int32, where sums and potentials are.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from keras_snn.engines.events.operations import LANES

__all__ = [
    "add",
    "append",
    "append_values",
    "at_least",
    "bits_of",
    "copy",
    "count",
    "floor",
    "fused",
    "get",
    "load",
    "load_bits",
    "load_row",
    "maximum",
    "multiply",
    "of_bits",
    "pointer",
    "splat",
    "splat_32",
    "splat_64",
    "store",
    "store_bits",
    "subtract",
    "widened",
    "zeros_16",
    "zeros_32",
]

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_INTS = ir.VectorType(_INT32, LANES)
_NUMBERS = {"float32": ir.FloatType(), "int32": _INT32, "int16": ir.IntType(16)}


class _Vector(types.Type):
    def __init__(self, lanes, number="float32"):
        self.lanes, self.number, self.is_whole = lanes, number, number != "float32"
        super().__init__(name=f"Vector({lanes}, {number})")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _of(kind))


def _of(kind):
    return ir.VectorType(_NUMBERS[kind.number], kind.lanes)


def _floats(kind):
    return ir.VectorType(ir.FloatType(), kind.lanes)


def _address(context, builder, kind, array, index, vector):
    """Return a pointer to the vector that begins at `array[index]`, of an array or a pointer to numbers."""
    is_array = not isinstance(kind, types.CPointer)
    data = context.make_array(kind)(context, builder, array).data if is_array else array
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _splatted(builder, number, vector):
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(_INT32, 0))
    places = ir.Constant(ir.VectorType(_INT32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, nothing, places)


def _flags(builder, bits, lanes=LANES):
    bits = bits if lanes == 64 else builder.trunc(bits, ir.IntType(lanes))
    return builder.bitcast(bits, ir.VectorType(ir.IntType(1), lanes))


def _bits(builder, flags):
    lanes = flags.type.count
    bits = builder.bitcast(flags, ir.IntType(lanes))
    return bits if lanes == 64 else builder.zext(bits, _INT64)


@intrinsic
def pointer(typing, array):
    """Return where the numbers of an array begin, which is less to hand on than the array."""

    def make(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), make


@intrinsic
def get(typing, array, index):
    """Return an integer of an array, whose index is not negative: Numba itself looks whether it is."""

    def make(context, builder, signature, args):
        kind = signature.args[0].dtype
        number = builder.load(_address(context, builder, signature.args[0], *args, ir.IntType(kind.bitwidth)))
        return (
            number if kind.bitwidth == 64 else (builder.sext if kind.signed else builder.zext)(number, _INT64)
        )

    return types.int64(array, types.int64), make


@intrinsic
def load(typing, array, index, like):
    """Return the numbers of an array of float32 from `index` on, as many and of the type as `like` has."""

    def make(context, builder, signature, args):
        kind, vector = signature.args[0], _floats(signature.args[2])
        numbers = builder.load(_address(context, builder, kind, *args[:2], vector), align=4)
        return builder.fptosi(numbers, _of(signature.args[2])) if signature.args[2].is_whole else numbers

    return like(array, types.int64, like), make


@intrinsic
def store(typing, array, index, value):
    """Write a vector to an array of float32 from `index` on."""

    def make(context, builder, signature, args):
        kind, vector, numbers = signature.args[0], _floats(signature.args[2]), args[2]
        if signature.args[2].is_whole:
            numbers = builder.sitofp(numbers, vector)
        builder.store(numbers, _address(context, builder, kind, *args[:2], vector), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), make


@intrinsic
def load_row(typing, weights, index, like):
    """Return the numbers of a row of weights from `index` on, as many and of the type as `like` has.

    Those for vectors of int16 are int8, as which they, and the index, are counted.
    """

    def make(context, builder, signature, args):
        vector, element = _of(signature.args[2]), _NUMBERS[signature.args[2].number]
        is_float = element == ir.FloatType()
        stored = element if is_float else ir.IntType(8)
        row = builder.gep(builder.bitcast(args[0], stored.as_pointer()), [args[1]])
        row = builder.bitcast(row, ir.VectorType(stored, vector.count).as_pointer())
        return builder.load(row, align=4) if is_float else builder.sext(builder.load(row, align=1), vector)

    return like(weights, types.int64, like), make


@intrinsic
def widened(typing, value, like):
    """Return the numbers of a vector in the type of another, which is the same or of wider integers."""

    def make(context, builder, signature, args):
        return args[0] if signature.args[0] == signature.args[1] else builder.sext(args[0], _of(like))

    return like(value, like), make


def _zeros(number):
    def zeros(typing, like):
        def make(context, builder, signature, args):
            return ir.Constant(_of(signature.return_type), [0] * like.lanes)

        return _Vector(like.lanes, number)(like), make

    zeros.__doc__ = f"Return as many zeros, of {number}, as a vector has numbers."
    return intrinsic(zeros)


zeros_16, zeros_32 = _zeros("int16"), _zeros("int32")


def _splat(lanes):
    def splat(typing, number):
        def make(context, builder, signature, args):
            return _splatted(builder, args[0], _of(signature.return_type))

        return _Vector(lanes)(types.float32), make

    splat.__doc__ = f"Return a vector of {lanes} times a number."
    return intrinsic(splat)


splat, splat_32, splat_64 = _splat(LANES), _splat(2 * LANES), _splat(4 * LANES)


def _binary(instruction, doc):
    def operation(typing, first, second):
        def make(context, builder, signature, args):
            prefix = "" if signature.args[0].is_whole else "f"
            return getattr(builder, prefix + instruction)(*args)

        return first(first, second), make

    operation.__doc__ = doc
    return intrinsic(operation)


add = _binary("add", "Return the sums of two vectors.")
subtract = _binary("sub", "Return the differences of two vectors.")
multiply = _binary("mul", "Return the products of two vectors.")


@intrinsic
def fused(typing, first, number, third):
    """Return `first` + `number` · `third`, of two vectors and a number, rounded once where that is quick."""

    def make(context, builder, signature, args):
        vector = _of(signature.return_type)
        name = f"llvm.fmuladd.v{vector.count}f32"
        kind = ir.FunctionType(vector, [vector] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [args[2], _splatted(builder, args[1], vector), args[0]])

    return first(first, types.float32, third), make


@intrinsic
def floor(typing, value):
    """Return the largest integers that are not above the numbers of a vector."""

    def make(context, builder, signature, args):
        vector = _of(signature.return_type)
        kind, name = ir.FunctionType(vector, [vector]), f"llvm.floor.v{vector.count}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return value(value), make


@intrinsic
def maximum(typing, first, second):
    """Return the larger numbers of two vectors."""

    def make(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return first(first, second), make


@intrinsic
def at_least(typing, first, second):
    """Return an integer whose bit i is set where `first` is at least `second`."""

    def make(context, builder, signature, args):
        compare = builder.icmp_signed if signature.args[0].is_whole else builder.fcmp_ordered
        return _bits(builder, compare(">=", *args))

    return types.int64(first, second), make


@intrinsic
def bits_of(typing, value):
    """Return an integer whose bit i is set where a vector of 16 is not 0; of NaN too."""

    def make(context, builder, signature, args):
        zeros = ir.Constant(_of(signature.args[0]), [0.0] * LANES)
        return _bits(builder, builder.fcmp_unordered("!=", args[0], zeros))

    return types.int64(value), make


@intrinsic
def of_bits(typing, bits, ones, zeros):
    """Return a vector of what `ones` has where bits are set, and elsewhere of what `zeros` has."""

    def make(context, builder, signature, args):
        return builder.select(_flags(builder, args[0], signature.return_type.lanes), args[1], args[2])

    return ones(types.int64, ones, zeros), make


@intrinsic
def load_bits(typing, words, index, like):
    """Return an integer of as many bits as the vector `like` has numbers, of the words from `index` on."""

    def make(context, builder, signature, args):
        kind, lanes = signature.args[0], signature.args[2].lanes
        bits = builder.load(_address(context, builder, kind, *args[:2], ir.IntType(lanes)), align=2)
        return bits if lanes == 64 else builder.zext(bits, _INT64)

    return types.int64(words, types.int64, like), make


@intrinsic
def store_bits(typing, words, index, bits, like):
    """Write as many bits as the vector `like` has numbers to the words from `index` on."""

    def make(context, builder, signature, args):
        kind, lanes = signature.args[0], signature.args[3].lanes
        bits = args[2] if lanes == 64 else builder.trunc(args[2], ir.IntType(lanes))
        builder.store(bits, _address(context, builder, kind, *args[:2], ir.IntType(lanes)), align=2)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64, like), make


@intrinsic
def count(typing, bits):
    """Return how many bits are set."""

    def make(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.int64), make


def _append(context, builder, kind, array, index, bits, values):
    """Write those of 16 values whose bits are set, side by side; what comes after them is overwritten."""
    vector = values.type
    name = f"llvm.experimental.vector.compress.v{LANES}{'i32' if vector == _INTS else 'f32'}"
    flags = _flags(builder, bits)
    function_type = ir.FunctionType(vector, [vector, flags.type, vector])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    packed = builder.call(function, [values, flags, ir.Constant(vector, ir.Undefined)])
    builder.store(packed, _address(context, builder, kind, array, index, vector), align=4)


@intrinsic
def append(typing, array, index, bits, base, step):
    """Write `base` + i·`step` for every bit i that is set to an array of int32, from `index` on.

    Up to 16 numbers from `index` on are overwritten.
    """

    def make(context, builder, signature, args):
        data, index, bits, base, step = args
        places = ir.Constant(_INTS, list(range(LANES)))
        steps = builder.mul(places, _splatted(builder, builder.trunc(step, _INT32), _INTS))
        values = builder.add(steps, _splatted(builder, builder.trunc(base, _INT32), _INTS))
        _append(context, builder, signature.args[0], data, index, bits, values)
        return context.get_dummy_value()

    return types.void(array, *(types.int64,) * 4), make


@intrinsic
def copy(typing, array, index, source, more):
    """Write 16 numbers of an array of int32 from `source` on, each and `more`, to it from `index` on."""

    def make(context, builder, signature, args):
        data, index, source, more = args
        kind = signature.args[0]
        values = builder.load(_address(context, builder, kind, data, source, _INTS), align=4)
        values = builder.add(values, _splatted(builder, builder.trunc(more, _INT32), _INTS))
        builder.store(values, _address(context, builder, kind, data, index, _INTS), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64), make


@intrinsic
def append_values(typing, array, index, bits, values):
    """Write those numbers of a vector of 16 whose bits are set to an array, from `index` on, as `append`."""

    def make(context, builder, signature, args):
        _append(context, builder, signature.args[0], *args)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, values), make
