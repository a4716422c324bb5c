"""Matrix products of a training step, in registers, as LLVM vector code (float32).

:func:`gemm` computes ``C[r, j] = C0[r, j] + sum_k A(r, k) B[k, j]`` for a few rows and any number
of columns, and may put the result through a rectifier or multiply it elementwise before it is
stored. Rows of B, C and C0 are contiguous; ``A(r, k)`` sits at ``a + r a_row + k a_k``, so that A
may be read transposed. Columns come in groups of 8. Addresses and strides are plain integers
(bytes).

*Tiles.* Up to 8 rows and 48 columns are summed in registers at a time, on processors with 32
registers of 16 numbers; up to 4 rows and 24 columns on those with 16 registers of 8.

*Bits.* Every element is summed over k in order, by fused multiply-adds, whatever the tile: a
result is the same bit for bit on every machine that has them. Only :func:`weighted_row` rounds
twice on processors without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from simprior.numerics.compiled import (
    F32,
    I32,
    I64,
    LANES,
    VECTOR,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    inner,
    named,
)

# mypy: disable-error-code="no-untyped-def"


ROWS = 4
"""Rows of a product are a multiple of this."""
GROUP = 8
"""Columns of a product are a multiple of this."""
STORE, RECTIFY, TIMES = range(3)
"""What :func:`gemm` does with a sum: nothing; rectify it, and store the slope (1 or 0) at ``d``;
multiply it with what is at ``d``."""

WIDE, NARROW = 6, 3
"""Groups of columns of a tile on processors with 32 and with 16 registers."""

_HALF = ir.VectorType(F32, GROUP)


def pad16(size: int) -> int:
    """``size`` rounded up to whole vectors."""
    return -(-size // LANES) * LANES


def pad4(size: int) -> int:
    """``size`` rounded up to whole row tiles."""
    return -(-size // ROWS) * ROWS


@inner()
def address(array):
    """Where an array begins, as a signed integer: sums with unsigned ones are floats in numba."""
    return np.int64(array.ctypes.data)


@inner()
def groups_of(size):
    """Groups of columns that hold ``size``."""
    return (size + GROUP - 1) // GROUP


def _is_wide(context: Any) -> bool:
    """Whether code is made for a processor with 32 registers of 16 numbers (AVX-512)."""
    return "+avx512f" in context.codegen().magic_tuple()[2]


@intrinsic
def wide(typingctx):
    """Whether the code is for a processor with 32 registers of 16 numbers."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.boolean, _is_wide(context))

    return types.boolean(), codegen


class _Tile:
    """Emits the code of one tile of ``rows`` rows and ``groups`` groups of columns."""

    def __init__(self, builder: Any, rows: int, groups: int, wide: bool, fused: bool) -> None:
        self._builder = builder
        self._rows = rows
        self._fused = fused
        self._vectors = [_HALF] * groups
        if wide:
            self._vectors = [VECTOR] * (groups // 2) + [_HALF] * (groups % 2)

    def _row(self, base: Any, stride: Any, row: int) -> list[Any]:
        """Addresses of the vectors of a row."""
        builder, out, offset = self._builder, [], 0
        start = builder.add(base, builder.mul(stride, ir.Constant(I64, row)))
        for vector in self._vectors:
            out.append(builder.add(start, ir.Constant(I64, offset)))
            offset += 4 * vector.count
        return out

    def _places(self, base: Any, stride: Any) -> list[tuple[Any, Any]]:
        """(address, type) of every vector of the tile, row by row."""
        return [
            pair
            for r in range(self._rows)
            for pair in zip(self._row(base, stride, r), self._vectors, strict=True)
        ]

    def _start(self, c0: Any, c0_row: Any) -> list[Any]:
        """The sums before the first term: C0, or zeros where its address is 0."""
        builder, entry = self._builder, self._builder.block
        given, ready = (builder.append_basic_block(f"gemm.{name}") for name in ("given", "ready"))
        builder.cbranch(builder.icmp_signed("!=", c0, ir.Constant(I64, 0)), given, ready)
        builder.position_at_end(given)
        loaded = [emit_load(builder, at, kind) for at, kind in self._places(c0, c0_row)]
        builder.branch(ready)
        builder.position_at_end(ready)
        out = []
        for value in loaded:
            out.append(builder.phi(value.type))
            out[-1].add_incoming(ir.Constant(value.type, [0.0] * value.type.count), entry)
            out[-1].add_incoming(value, given)
        return out

    def sums(self, args: Any) -> list[Any]:
        """The sums over k, row by row."""
        a, a_row, a_k, b, b_k, c0, c0_row, count = args
        builder, zero = self._builder, ir.Constant(I64, 0)
        start = self._start(c0, c0_row)
        entry = builder.block
        loop, done = (builder.append_basic_block(f"gemm.{name}") for name in ("loop", "done"))
        builder.cbranch(builder.icmp_signed(">", count, zero), loop, done)
        builder.position_at_end(loop)
        moving = [builder.phi(I64) for _ in range(3)]
        acc = [builder.phi(value.type) for value in start]
        for phi, value in zip([*moving, *acc], [zero, a, b, *start], strict=True):
            phi.add_incoming(value, entry)
        k, a_now, b_now = moving
        right = [
            emit_load(builder, at, kind)
            for at, kind in zip(self._row(b_now, zero, 0), self._vectors, strict=True)
        ]
        new = []
        for r in range(self._rows):
            at = builder.add(a_now, builder.mul(a_row, ir.Constant(I64, r)))
            left = emit_load(builder, at, F32)
            for v, row in enumerate(right):
                total = acc[r * len(right) + v]
                spread = emit_splat(builder, left, row.type.count)
                new.append(emit_fma(builder, spread, row, total, always=self._fused))
        after = [builder.add(k, ir.Constant(I64, 1)), builder.add(a_now, a_k)]
        after.append(builder.add(b_now, b_k))
        for phi, value in zip([*moving, *acc], [*after, *new], strict=True):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", after[0], count), loop, done)
        builder.position_at_end(done)
        out = []
        for first, last in zip(start, new, strict=True):
            out.append(builder.phi(first.type))
            out[-1].add_incoming(first, entry)
            out[-1].add_incoming(last, loop)
        return out

    def finish(self, sums: list[Any], c: Any, c_row: Any, d: Any, how: Any) -> None:
        """Store the sums in the way the number ``how`` says."""
        builder = self._builder
        names = ("store", "relu", "times", "stored")
        store, relu, times, after = (builder.append_basic_block(f"gemm.{n}") for n in names)
        switch = builder.switch(how, store)
        switch.add_case(ir.Constant(I64, RECTIFY), relu)
        switch.add_case(ir.Constant(I64, TIMES), times)
        for block, form in ((store, _plain), (relu, _rectified), (times, _multiplied)):
            builder.position_at_end(block)
            places = zip(sums, self._places(c, c_row), self._places(d, c_row), strict=True)
            for value, (place, _), (other, _) in places:
                form(builder, value, place, other)
            builder.branch(after)
        builder.position_at_end(after)


def _plain(builder: Any, value: Any, place: Any, other: Any) -> None:
    emit_store(builder, value, place)


def _rectified(builder: Any, value: Any, place: Any, other: Any) -> None:
    zero, one = (ir.Constant(value.type, [x] * value.type.count) for x in (0.0, 1.0))
    above = builder.fcmp_ordered(">", value, zero)
    emit_store(builder, builder.select(above, value, zero), place)
    emit_store(builder, builder.select(above, one, zero), other)


def _multiplied(builder: Any, value: Any, place: Any, other: Any) -> None:
    emit_store(builder, builder.fmul(value, emit_load(builder, other, value.type)), place)


def _make_tile(rows: int, groups: int) -> Any:
    """Intrinsic for one tile; no code where the processor has too few registers for it."""

    @intrinsic
    def tile(typingctx, a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count, how, d):
        def codegen(context, builder, signature, args):
            a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count, how, d = args
            wide = _is_wide(context)
            if wide or (rows <= ROWS and groups <= NARROW):
                code = _Tile(builder, rows, groups, wide, True)
                sums = code.sums((a, a_row, a_k, b, b_k, c0, c0_row, count))
                code.finish(sums, c, c_row, d, how)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 12), codegen

    return tile


def _make_strip(rows: int) -> Any:
    """Compiled function for ``rows`` rows and ``groups`` groups of columns of a product."""
    t1, t2, t3, t4, t5, t6 = (_make_tile(rows, groups) for groups in range(1, WIDE + 1))

    def strip(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, groups, count, how, d):
        most = WIDE if wide() else NARROW
        left = groups
        while left > 0:
            now = min(left, most)
            if now == 6:
                t6(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count, how, d)
            elif now == 5:
                t5(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count, how, d)
            elif now == 4:
                t4(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count, how, d)
            elif now == 3:
                t3(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count, how, d)
            elif now == 2:
                t2(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count, how, d)
            else:
                t1(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count, how, d)
            step = 4 * GROUP * now
            b, c, d = b + step, c + step, d + step
            c0 = c0 + step if c0 else c0
            left -= now

    return inner()(named(strip, f"strip_of_{rows}"))


_strip4, _strip8 = _make_strip(4), _make_strip(8)


@inner()
def gemm(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, rows, groups, count, how, d):
    """C = C0 + A B for ``rows`` (a multiple of 4) and ``groups`` groups of 8 columns.

    ``c0`` is 0 for C0 = 0. ``how`` is one of :data:`STORE`, :data:`RECTIFY` and :data:`TIMES`; the
    last two use ``d``, laid out as C, and ``d`` may be ``c`` for the last.
    """
    r = 0
    while r < rows:
        ar, cr, dr = a + r * a_row, c + r * c_row, d + r * c_row
        start = c0 + r * c0_row if c0 else c0
        if wide() and rows - r >= 8:
            _strip8(ar, a_row, a_k, b, b_k, cr, c_row, start, c0_row, groups, count, how, dr)
            r += 8
        else:
            _strip4(ar, a_row, a_k, b, b_k, cr, c_row, start, c0_row, groups, count, how, dr)
            r += 4


def _make_row_tile(groups: int) -> Any:
    """Intrinsic for ``groups`` groups of columns of :func:`weighted_row`."""

    @intrinsic
    def tile(typingctx, a, a_k, b, b_k, c, c0, count):
        def codegen(context, builder, signature, args):
            a, a_k, b, b_k, c, c0, count = args
            zero = ir.Constant(I64, 0)
            code = _Tile(builder, 1, groups, _is_wide(context), False)
            sums = code.sums((a, zero, a_k, b, b_k, c0, zero, count))
            code.finish(sums, c, zero, zero, zero)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7), codegen

    return tile


_row1, _row4, _row8 = (_make_row_tile(groups) for groups in (1, 4, 8))


@inner(forceinline=True)
def weighted_row(a, a_k, b, b_k, c, c0, groups, count):
    """c[j] = c0[j] + sum_k a_k B[k, j] for one row, ``a`` at stride ``a_k``; ``c0`` as in
    :func:`gemm`. The sums of the columns are those with a one at ``a`` and stride 0."""
    left = groups
    while left > 0:
        if left >= 8:
            now = 8
            _row8(a, a_k, b, b_k, c, c0, count)
        elif left >= 4:
            now = 4
            _row4(a, a_k, b, b_k, c, c0, count)
        else:
            now = 1
            _row1(a, a_k, b, b_k, c, c0, count)
        step = 4 * GROUP * now
        b, c = b + step, c + step
        c0 = c0 + step if c0 else c0
        left -= now


def _emit_transpose(builder: Any, args: Any) -> None:
    source, source_row, target, target_row = args
    rows = [
        emit_load(
            builder, builder.add(source, builder.mul(source_row, ir.Constant(I64, r))), VECTOR
        )
        for r in range(LANES)
    ]
    half = LANES // 2
    while half:
        new = list(rows)
        for r in range(LANES):
            if r & half:
                continue
            low = [i if not i & half else LANES + i - half for i in range(LANES)]
            high = [i + half if not i & half else LANES + i for i in range(LANES)]
            for index, lanes in ((r, low), (r + half, high)):
                mask = ir.Constant(ir.VectorType(I32, LANES), lanes)
                new[index] = builder.shuffle_vector(rows[r], rows[r + half], mask)
        rows = new
        half //= 2
    for r in range(LANES):
        place = builder.add(target, builder.mul(target_row, ir.Constant(I64, r)))
        emit_store(builder, rows[r], place)


@intrinsic
def transpose16(typingctx, source, source_row, target, target_row):
    """Transpose a 16 x 16 block of float32 between two byte addresses with byte row strides."""

    def codegen(context, builder, signature, args):
        _emit_transpose(builder, args)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), codegen


def _emit_dot(builder: Any, args: Any) -> Any:
    a, b, vectors = args
    const = lambda v: ir.Constant(I64, v)  # noqa: E731
    entry = builder.block
    loop = builder.append_basic_block("dot.loop")
    done = builder.append_basic_block("dot.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, acc = builder.phi(I64), builder.phi(VECTOR)
    k.add_incoming(const(0), entry)
    acc.add_incoming(ir.Constant(VECTOR, [0.0] * LANES), entry)
    shift = builder.mul(k, const(4 * LANES))
    left = emit_load(builder, builder.add(a, shift), VECTOR)
    right = emit_load(builder, builder.add(b, shift), VECTOR)
    new = emit_fma(builder, left, right, acc, always=True)
    after = builder.add(k, const(1))
    k.add_incoming(after, loop)
    acc.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", after, vectors), loop, done)
    builder.position_at_end(done)
    total, undef, half = new, ir.Constant(VECTOR, ir.Undefined), LANES // 2
    while half:
        lanes = [(i + half) % LANES for i in range(LANES)]
        mask = ir.Constant(ir.VectorType(I32, LANES), lanes)
        total = builder.fadd(total, builder.shuffle_vector(total, undef, mask))
        half //= 2
    return builder.extract_element(total, ir.Constant(I32, 0))


@intrinsic
def dot16(typingctx, a, b, vectors):
    """Dot product of ``vectors`` >= 1 vectors of 16 float32 at two byte addresses."""

    def codegen(context, builder, signature, args):
        return _emit_dot(builder, args)

    return types.float32(types.intp, types.intp, types.intp), codegen
