"""Vector instructions that numba has no words for: masks of comparisons, sums in a fixed tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

LANES: Final = 32
"""Scores compared at once: a 512-bit register of bf16; LLVM splits it where it must."""
TREE_WIDTH: Final = 128
"""Width of the vectors that `tree_product` multiplies: the model's."""
_DOUBLES: Final = 8
"""Float64 in a 512-bit register."""
LINE_BYTES: Final = 64
"""A line of the cache."""
FETCHED_BYTES: Final = 512
"""What `fetch_row` asks for: a row of 128 float32."""


def _instruction(definition: Callable[..., Any]) -> Any:
    """`intrinsic`: what it makes is called by kernels without the typing context."""
    return intrinsic(definition)


@_instruction
def at_least(typing_context: Any, scores: Any, offset: Any, threshold: Any) -> Any:
    """Bit i of the result: whether `scores[offset + i]`, LANES in all, reaches the threshold.

    `scores`: int16 (bf16) or int32 (float32) bits in one contiguous array; `threshold`: int32,
    in the order of sortable bits (negative numbers with all bits but the sign turned over).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        bits = signature.args[0].dtype.bitwidth
        element = ir.IntType(bits)
        vector = ir.VectorType(element, LANES)
        place = builder.gep(array.data, [arguments[1]])
        values = builder.load(builder.bitcast(place, vector.as_pointer()))
        values.align = bits // 8
        negative = builder.ashr(values, ir.Constant(vector, [bits - 1] * LANES))
        turned = builder.and_(negative, ir.Constant(vector, [2 ** (bits - 1) - 1] * LANES))
        sortable = builder.xor(values, turned)
        line = arguments[2] if bits == 32 else builder.trunc(arguments[2], element)
        single = builder.insert_element(
            ir.Constant(vector, ir.Undefined), line, ir.Constant(ir.IntType(32), 0)
        )
        everywhere = builder.shuffle_vector(
            single,
            ir.Constant(vector, ir.Undefined),
            ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES),
        )
        reached = builder.icmp_signed(">=", sortable, everywhere)
        return builder.bitcast(reached, ir.IntType(LANES))

    return types.uint32(scores, types.intp, types.int32), generate


@_instruction
def first_set(typing_context: Any, mask: Any) -> Any:
    """Place of the lowest bit of a mask that is not zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.zext(found, ir.IntType(64))

    return types.int64(types.uint32), generate


@_instruction
def float_bits(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 as int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@_instruction
def float_of(typing_context: Any, bits: Any) -> Any:
    """The float32 with these bits (int32)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@_instruction
def fetch_row(typing_context: Any, matrix: Any, row: Any) -> Any:
    """Ask for a row of a contiguous float32 matrix, so it is in the cache when its turn comes.

    The first FETCHED_BYTES of it; the processor fetches on by itself. No row is out of range: it
    is a hint, not a reading.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        width = builder.extract_value(array.shape, 1)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        start = builder.bitcast(builder.gep(array.data, [builder.mul(arguments[1], width)]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        reading, kept, data = number(0), number(3), number(1)
        for offset in range(0, FETCHED_BYTES, LINE_BYTES):
            place = builder.gep(start, [ir.Constant(ir.IntType(64), offset)])
            builder.call(fetch, [place, reading, kept, data])
        return context.get_dummy_value()

    return types.void(matrix, types.intp), generate


@_instruction
def tree_product(typing_context: Any, user: Any, outfits: Any, row: Any) -> Any:
    """`exact.tree_sum` of the products of `user` (float64) and `outfits[row]` (float32), float64.

    For width TREE_WIDTH, without a loop: ten times as fast as the same in words of numba.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double, single = (
            ir.VectorType(kind, _DOUBLES) for kind in (ir.DoubleType(), ir.FloatType())
        )
        left = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        matrix = context.make_array(signature.args[1])(context, builder, arguments[1]).data
        offset = builder.mul(arguments[2], ir.Constant(ir.IntType(64), TREE_WIDTH))
        right = builder.gep(matrix, [offset])

        def load(start: Any, kind: Any, register: int, alignment: int) -> Any:
            place = builder.gep(start, [ir.Constant(ir.IntType(64), register * _DOUBLES)])
            values = builder.load(builder.bitcast(place, kind.as_pointer()))
            values.align = alignment
            return values

        def total(register: int, step: int) -> Any:
            """Of every `step`-th register: the first half of a vector meets the second first."""
            if step * _DOUBLES == TREE_WIDTH:
                outfit = builder.fpext(load(right, single, register, 4), double)
                return builder.fmul(load(left, double, register, 8), outfit)
            return builder.fadd(total(register, 2 * step), total(register + step, 2 * step))

        terms = total(0, 1)
        for half in (4, 2, 1):
            places = ir.VectorType(ir.IntType(32), half)
            nothing = ir.Constant(terms.type, ir.Undefined)
            first, second = (
                builder.shuffle_vector(
                    terms, nothing, ir.Constant(places, list(range(start, start + half)))
                )
                for start in (0, half)
            )
            terms = builder.fadd(first, second)
        return builder.extract_element(terms, ir.Constant(ir.IntType(32), 0))

    return types.float64(user, outfits, types.intp), generate
