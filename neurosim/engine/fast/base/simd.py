"""Sixteen 32-bit lanes at a time, written out: loads, saturating steps and tests as LLVM vectors.

numba's own vectoriser gives up on loops that must say *who* fired, and unrolls runs of 96 synapses into a scalar remainder. LLVM lowers these vectors
to whatever the machine has (one AVX-512, two AVX2, four SSE or NEON registers). Loads and stores take an array and an index and check nothing: arrays
that end within a vector are padded by ``LANES`` elements (``padded``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from neurosim.engine.fast.base.compiled import jit
from neurosim.engine.fast.tables.columns import LANES

_VECTOR = ir.VectorType(ir.IntType(32), LANES)
_I32, _I64, _MASK = ir.IntType(32), ir.IntType(64), ir.IntType(LANES)


class Vector(types.Type):  # type: ignore[misc]  # numba is untyped
    """Sixteen int32."""

    def __init__(self) -> None:
        super().__init__(name="int32x16")


VECTOR = Vector()


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]  # numba is untyped
    """An LLVM vector, kept in registers."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@jit
def wide(x: Any) -> int:
    """An integer of any width as int64."""
    value: Any = np.int64(x)
    return value


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    return builder.gep(data, [index])


def _splat(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), builder.trunc(scalar, _I32), ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """array[index : index + 16] as int32 (sign-extended int8 or int16, or int32)."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, array, *arguments)
        item = ir.IntType(array.dtype.bitwidth)
        vector = ir.VectorType(item, LANES)
        loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=array.dtype.bitwidth // 8)
        return loaded if array.dtype.bitwidth == 32 else builder.sext(loaded, _VECTOR)

    return VECTOR(array, types.int64), build


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + 16] = vector; array of int32."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, array, arguments[0], arguments[1])
        builder.store(arguments[2], builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(array, types.int64, VECTOR), build


@intrinsic
def splat(typing: Any, scalar: Any) -> Any:
    """The lower 32 bits of a scalar in every lane."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[0])

    return VECTOR(types.int64), build


def _binary(operation: str, doc: str) -> Any:
    def function(typing: Any, a: Any, b: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, y = arguments
            if operation in ("smin", "smax"):
                return builder.select(builder.icmp_signed("<" if operation == "smin" else ">", x, y), x, y)
            return getattr(builder, operation)(x, y)

        return VECTOR(VECTOR, VECTOR), build

    function.__doc__, function.__name__ = doc, operation
    return intrinsic(function)


add = _binary("add", "a + b, wrapping around.")
mul = _binary("mul", "a * b, wrapping around.")
both = _binary("and_", "Bits of both.")
either = _binary("or_", "Bits of either.")
least = _binary("smin", "The smaller of each pair.")
largest = _binary("smax", "The larger of each pair.")
shift_left = _binary("shl", "a << b.")
shift_right = _binary("ashr", "a >> b, keeping the sign.")


@intrinsic
def negate(typing: Any, a: Any) -> Any:
    """-a."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.neg(arguments[0])

    return VECTOR(VECTOR), build


def _test(operation: str, doc: str) -> Any:
    def function(typing: Any, a: Any, b: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            bits = builder.bitcast(builder.icmp_signed(operation, *arguments), _MASK)
            return builder.zext(bits, _I64)

        return types.int64(VECTOR, VECTOR), build

    function.__doc__, function.__name__ = doc, "test"
    return intrinsic(function)


differ = _test("!=", "Bit k: lane k of a differs from that of b.")
reach = _test(">=", "Bit k: lane k of a is at least that of b.")


@intrinsic
def choose(typing: Any, mask: Any, a: Any, b: Any) -> Any:
    """Lanes of a where the mask has a bit, else of b."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(builder.trunc(arguments[0], _MASK), ir.VectorType(ir.IntType(1), LANES))
        return builder.select(bits, arguments[1], arguments[2])

    return VECTOR(types.int64, VECTOR, VECTOR), build


@intrinsic
def ones(typing: Any, bits: Any) -> Any:
    """Number of bits set."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), build


@intrinsic
def lowest(typing: Any, bits: Any) -> Any:
    """Number of the lowest bit set; ``bits`` is not 0."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), build
