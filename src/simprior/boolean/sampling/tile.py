"""Register-tiled affine layer as LLVM vector code: the inner loop of the compiled sampler.

One call computes ``NT`` output units on a block of 16 inputs::

    acc[i] = W[fan_in, i] + sum over alive j of W[j, i] * H[j, 0:16]       i = 0 .. NT-1

with the ``NT`` accumulators held in vector registers, and then either stores relu(acc) and returns
which units are alive on the block, or stores acc, or stores the sign bits (of acc, or of both acc
and -acc). Units that are zero on the whole block are simply not in the list ``idx`` (exact: they
contribute nothing).

Memory layout (float32): ``W`` is a panel ``[fan_in + 1][NT]``, its last row the bias; ``H`` is one
block ``[units][16]``; ``idx`` is int32. All addresses are plain integers (``array.ctypes.data``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from simprior.numerics.compiled import (
    F32,
    I16,
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

WIDTHS = (8, 12, 16, 20, 24)  # tile widths NT for hidden layers
HEAD_TILE = 16
MIRRORS = 64  # rows between the sign bits of a head and those of its mirror

_SIGNATURE = types.uint32(
    types.intp, types.intp, types.intp, types.intp, types.intp, types.intp, types.intp
)


def _accumulate(builder: Any, nt: int, nb: int, args: Any) -> list[Any]:
    """Emit the loop over alive units; returns the nt * nb accumulators (unit-major)."""
    w, h, idx, count, fan_in, block_bytes = args
    const = lambda v: ir.Constant(I64, v)  # noqa: E731
    bias_row = builder.mul(fan_in, const(4 * nt))
    start = []
    for i in range(nt):
        place = builder.add(bias_row, const(4 * i))
        start += [emit_splat(builder, emit_load(builder, builder.add(w, place), F32))] * nb
    entry = builder.block
    loop = builder.append_basic_block("tile.loop")
    done = builder.append_basic_block("tile.done")
    builder.cbranch(builder.icmp_signed(">", count, const(0)), loop, done)
    builder.position_at_end(loop)
    a = builder.phi(I64)
    a.add_incoming(const(0), entry)
    acc = [builder.phi(VECTOR) for _ in start]
    for phi, value in zip(acc, start, strict=True):
        phi.add_incoming(value, entry)
    j = builder.sext(emit_load(builder, builder.add(idx, builder.mul(a, const(4))), I32), I64)
    unit = builder.add(h, builder.mul(j, const(4 * LANES)))
    blocks = [builder.add(unit, builder.mul(block_bytes, const(b))) for b in range(nb)]
    rows = [emit_load(builder, block, VECTOR) for block in blocks]
    w_row = builder.mul(j, const(4 * nt))
    new = []
    for i in range(nt):
        place = builder.add(w_row, const(4 * i))
        weight = emit_splat(builder, emit_load(builder, builder.add(w, place), F32))
        new += [
            emit_fma(builder, weight, rows[b], acc[i * nb + b], always=False) for b in range(nb)
        ]
    following = builder.add(a, const(1))
    end = builder.block
    a.add_incoming(following, end)
    for phi, value in zip(acc, new, strict=True):
        phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    builder.position_at_end(done)
    out = []
    for first, last in zip(start, new, strict=True):
        phi = builder.phi(VECTOR)
        phi.add_incoming(first, entry)
        phi.add_incoming(last, end)
        out.append(phi)
    return out


def _positive(builder: Any, acc: Any) -> Any:
    """16-bit mask of the lanes that are > 0 (lane 0 in the lowest bit)."""
    return builder.bitcast(builder.fcmp_ordered(">", acc, ir.Constant(VECTOR, [0.0] * LANES)), I16)


def _relu_epilogue(builder: Any, acc: list[Any], out: Any, stride: Any) -> Any:
    zero = ir.Constant(VECTOR, [0.0] * LANES)
    alive = ir.Constant(I32, 0)
    for i, value in enumerate(acc):
        above = builder.fcmp_ordered(">", value, zero)
        place = builder.add(out, ir.Constant(I64, 4 * LANES * i))
        emit_store(builder, builder.select(above, value, zero), place)
        any_ = builder.icmp_unsigned("!=", builder.bitcast(above, I16), ir.Constant(I16, 0))
        alive = builder.or_(alive, builder.shl(builder.zext(any_, I32), ir.Constant(I32, i)))
    return alive


def _store_epilogue(builder: Any, acc: list[Any], out: Any, stride: Any) -> Any:
    for i, value in enumerate(acc):
        emit_store(builder, value, builder.add(out, ir.Constant(I64, 4 * LANES * i)))
    return ir.Constant(I32, (1 << len(acc)) - 1)


def _sign_epilogue(builder: Any, acc: list[Any], out: Any, stride: Any) -> Any:
    for value in acc:
        emit_store(builder, _positive(builder, value), out, align=2)
        out = builder.add(out, stride)
    return ir.Constant(I32, 0)


def _both_epilogue(builder: Any, acc: list[Any], out: Any, stride: Any) -> Any:
    """Sign bits as ``"sign"``, and those of the outputs with the other sign ``MIRRORS`` rows on."""
    far = builder.add(out, builder.mul(stride, ir.Constant(I64, MIRRORS)))
    _sign_epilogue(builder, acc, out, stride)
    minus = [builder.fneg(value) for value in acc]
    return _sign_epilogue(builder, minus, far, stride)


_EPILOGUES: dict[str, Callable[..., Any]] = {
    "relu": _relu_epilogue,
    "store": _store_epilogue,
    "sign": _sign_epilogue,
    "both": _both_epilogue,
}


def make_tile(epilogue: str, nt: int, nb: int = 1) -> Callable[..., Any]:
    """Numba intrinsic for one tile.

    Called as ``tile(w, h, idx, count, fan_in, out, stride) -> uint32`` with integer addresses and
    sizes. ``stride`` is the byte distance of successive outputs of ``"sign"``, or, when ``nb > 1``,
    of consecutive blocks of ``h`` (the sign words of the blocks are then stored side by side).
    Returns the mask of alive units for ``"relu"``.
    """
    finish = _EPILOGUES[epilogue]

    @intrinsic
    def tile(typingctx, w, h, idx, count, fan_in, out, stride):
        def codegen(context, builder, signature, args):
            w_, h_, idx_, count_, fan_in_, out_, stride_ = args
            acc = _accumulate(builder, nt, nb, (w_, h_, idx_, count_, fan_in_, stride_))
            return finish(builder, acc, out_, ir.Constant(I64, 2) if nb > 1 else stride_)

        return _SIGNATURE, codegen

    return tile


def _dispatcher(epilogue: str, widths: tuple[int, ...]) -> Callable[..., Any]:
    """Compiled function that picks the tile of width ``nt`` (one of five) at run time."""
    t0, t1, t2, t3, t4 = (make_tile(epilogue, nt) for nt in widths)
    n0, n1, n2, n3, _ = widths

    def run(nt, w, h, idx, count, fan_in, out, stride):
        if nt == n0:
            return t0(w, h, idx, count, fan_in, out, stride)
        if nt == n1:
            return t1(w, h, idx, count, fan_in, out, stride)
        if nt == n2:
            return t2(w, h, idx, count, fan_in, out, stride)
        if nt == n3:
            return t3(w, h, idx, count, fan_in, out, stride)
        return t4(w, h, idx, count, fan_in, out, stride)

    compiled = inner(inline="never")
    return compiled(named(run, f"{epilogue}_tile"))  # type: ignore[no-any-return]


relu_tile = _dispatcher("relu", WIDTHS)
store_tile = _dispatcher("store", WIDTHS)
sign_tile = make_tile("sign", HEAD_TILE)
both_tile = make_tile("both", HEAD_TILE)
_S1, _S2, _S4, _S8 = (make_tile("sign", 1, nb) for nb in (1, 2, 4, 8))


@inner(inline="never")
def sign_one(nb, w, h, idx, count, fan_in, out, h_stride):
    """Sign bits of a single head on ``nb`` (1, 2, 4 or 8) consecutive blocks, 2 bytes a block."""
    if nb == 8:
        return _S8(w, h, idx, count, fan_in, out, h_stride)
    if nb == 4:
        return _S4(w, h, idx, count, fan_in, out, h_stride)
    if nb == 2:
        return _S2(w, h, idx, count, fan_in, out, h_stride)
    return _S1(w, h, idx, count, fan_in, out, 2)


def tile_width(units: int) -> int:
    """Tile width with the least padding for a layer of ``units`` units (ties: the widest)."""
    return min(WIDTHS, key=lambda nt: (-(-units // nt) * nt, -nt))
