"""What moves with one unit, on all inputs at once, as LLVM vector code (float32).

Inputs go by vectors of 16, whose sums stay in registers while the rows pass; what is left of the
inputs is done number by number. Addresses and strides are plain integers (bytes). Products are
fused with sums where the processor can: the last bit hangs on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from simprior.numerics.compiled import (
    F32,
    I64,
    LANES,
    UNCOUNTED,
    VECTOR,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    inner,
)
from simprior.training.products import GROUP, address, weighted_row, wide

# mypy: disable-error-code="no-untyped-def"

_FAST = {"contract", "nsz", "reassoc"}
_ZERO = np.float32(0.0)


def _loop(
    builder: Any, count: Any, carried: list[Any], body: Callable[..., list[Any]]
) -> list[Any]:
    """Emit ``for i in range(count): carried = body(i, carried)``, count at least 1."""
    entry, loop = builder.block, builder.append_basic_block("rows.loop")
    done = builder.append_basic_block("rows.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    i, values = builder.phi(I64), [builder.phi(value.type) for value in carried]
    i.add_incoming(ir.Constant(I64, 0), entry)
    for phi, value in zip(values, carried, strict=True):
        phi.add_incoming(value, entry)
    new = body(i, values)
    after = builder.add(i, ir.Constant(I64, 1))
    i.add_incoming(after, loop)
    for phi, value in zip(values, new, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", after, count), loop, done)
    builder.position_at_end(done)
    return new


class _Moved:
    """Emits rows + a new - b old for some vectors of inputs."""

    def __init__(self, builder: Any, vectors: int, new: Any, old: Any) -> None:
        self._builder = builder
        self._offsets = [ir.Constant(I64, 4 * LANES * k) for k in range(vectors)]
        self._new, self._old = self.load(new), self.load(old)

    def _places(self, at: Any) -> list[Any]:
        return [self._builder.add(at, offset) for offset in self._offsets]

    def load(self, at: Any) -> list[Any]:
        """The vectors from an address on."""
        return [emit_load(self._builder, place, VECTOR) for place in self._places(at)]

    def store(self, values: list[Any], at: Any) -> None:
        """The same, written."""
        for value, place in zip(values, self._places(at), strict=True):
            emit_store(self._builder, value, place)

    def scalar(self, base: Any, i: Any) -> Any:
        """Number ``i`` from ``base`` in all lanes of a vector."""
        at = self._builder.add(base, self._builder.shl(i, ir.Constant(I64, 2)))
        return emit_splat(self._builder, emit_load(self._builder, at, F32))

    def plus(self, scalar: Any, vectors: list[Any], to: list[Any]) -> list[Any]:
        """``to`` + scalar * vectors."""
        return [
            emit_fma(self._builder, scalar, x, y, always=False)
            for x, y in zip(vectors, to, strict=True)
        ]

    def row(self, at: Any, a: Any, b: Any) -> list[Any]:
        """The row at an address + a new - b old."""
        added = self.plus(a, self._new, self.load(at))
        return self.plus(self._builder.fneg(b), self._old, added)

    def rectified(self, values: list[Any]) -> list[Any]:
        """max(values, 0)."""
        builder, zero = self._builder, ir.Constant(VECTOR, [0.0] * LANES)
        return [builder.select(builder.fcmp_ordered(">", x, zero), x, zero) for x in values]


def _make_rectified(vectors: int) -> Any:
    """Intrinsic: z += sum over the rows of out[i] max(row i + w_new[i] new - w_old[i] old, 0)."""

    @intrinsic
    def tile(typingctx, rows, stride, w_new, w_old, out, count, new, old, z):
        def codegen(context, builder, signature, args):
            rows, stride, w_new, w_old, out, count, new, old, z = args
            code = _Moved(builder, vectors, new, old)

            def body(i: Any, sums: list[Any]) -> list[Any]:
                at = builder.add(rows, builder.mul(i, stride))
                row = code.row(at, code.scalar(w_new, i), code.scalar(w_old, i))
                return code.plus(code.scalar(out, i), code.rectified(row), sums)

            code.store(_loop(builder, count, code.load(z), body), z)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 9), codegen

    return tile


def _make_added(vectors: int) -> Any:
    """Intrinsic: row i += w_new[i] new - w_old[i] old."""

    @intrinsic
    def tile(typingctx, rows, stride, w_new, w_old, count, new, old):
        def codegen(context, builder, signature, args):
            rows, stride, w_new, w_old, count, new, old = args
            code = _Moved(builder, vectors, new, old)

            def body(i: Any, _: list[Any]) -> list[Any]:
                at = builder.add(rows, builder.mul(i, stride))
                code.store(code.row(at, code.scalar(w_new, i), code.scalar(w_old, i)), at)
                return []

            _loop(builder, count, [], body)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7), codegen

    return tile


_rectified2, _rectified1 = _make_rectified(2), _make_rectified(1)
_added2, _added1 = _make_added(2), _make_added(1)


@inner(fastmath=_FAST, **UNCOUNTED)
def affine(row, start, fan, h, first, out):
    """out = bias + sum over k of row[start + k] h[first + k]; the bias is row[start + fan]."""
    bias, m = row[start + fan], out.size
    for j in range(m):
        out[j] = bias
    stride = np.int64(4 * h.shape[1])
    a, b, c = address(row) + 4 * start, address(h) + first * stride, address(out)
    weighted_row(a, 4, b, stride, c, c, m // GROUP, fan)
    for k in range(fan):
        for j in range(m // GROUP * GROUP, m):
            out[j] += row[start + k] * h[first + k, j]


@inner(fastmath=_FAST, **UNCOUNTED)
def add_rows(pre, first, w_new, new, w_old, old, count):
    """pre[first + i] += w_new[i] new - w_old[i] old for ``count`` >= 1 rows."""
    m, stride = pre.shape[1], np.int64(4 * pre.shape[1])
    rows, x, y = address(pre) + first * stride, address(new), address(old)
    a, b, j = address(w_new), address(w_old), 0
    while wide() and j + 32 <= m:
        _added2(rows + 4 * j, stride, a, b, count, x + 4 * j, y + 4 * j)
        j += 32
    while j + 16 <= m:
        _added1(rows + 4 * j, stride, a, b, count, x + 4 * j, y + 4 * j)
        j += 16
    if j < m:
        for i in range(count):
            for k in range(j, m):
                pre[first + i, k] += w_new[i] * new[k] - w_old[i] * old[k]


@inner(fastmath=_FAST, **UNCOUNTED)
def rectified(pre, first, w_new, new, w_old, old, count, p, last, z):
    """z = p[last + count] + sum over i of p[last + i] relu(the rows of :func:`add_rows`)."""
    m, stride = pre.shape[1], np.int64(4 * pre.shape[1])
    rows, x, y, out = address(pre) + first * stride, address(new), address(old), address(z)
    a, b, v, j = address(w_new), address(w_old), address(p) + 4 * last, 0
    bias = p[last + count]
    for k in range(m):
        z[k] = bias
    while wide() and j + 32 <= m:
        at = 4 * j
        _rectified2(rows + at, stride, a, b, v, count, x + at, y + at, out + at)
        j += 32
    while j + 16 <= m:
        at = 4 * j
        _rectified1(rows + at, stride, a, b, v, count, x + at, y + at, out + at)
        j += 16
    if j < m:
        for i in range(count):
            for k in range(j, m):
                moved = pre[first + i, k] + w_new[i] * new[k] - w_old[i] * old[k]
                z[k] += p[last + i] * max(moved, _ZERO)
