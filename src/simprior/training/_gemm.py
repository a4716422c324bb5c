# mypy: disable-error-code="no-untyped-def"
"""Small matrix products in registers, as LLVM vector code: the inner loops of training.

``gemm`` computes ``C[r, 0:cols] = C0[r, 0:cols] + sum_k A(r, k) B[k, 0:cols]`` in float32. Rows of
B, C and C0 are contiguous and padded to 16 columns; ``A(r, k)`` sits at ``a + r a_row + k a_k`` so
that A may be read transposed. Four rows and up to 64 columns are accumulated in registers at a
time; sums run over k in order with fused multiply-adds, so a result is the same bit for bit on
every machine that has them. Addresses and strides are plain integers (bytes).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LANES = 16
ROWS = 4
_F32 = ir.FloatType()
_VEC = ir.VectorType(_F32, LANES)
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def pad16(size: int) -> int:
    """``size`` rounded up to whole vectors."""
    return -(-size // LANES) * LANES


def pad4(size: int) -> int:
    """``size`` rounded up to whole row tiles."""
    return -(-size // ROWS) * ROWS


def _load(builder: Any, address: Any, kind: Any) -> Any:
    load = builder.load(builder.inttoptr(address, kind.as_pointer()))
    load.align = 4
    return load


def _store(builder: Any, value: Any, address: Any) -> None:
    store = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    store.align = 4


def _splat(builder: Any, scalar: Any) -> Any:
    undef = ir.Constant(_VEC, ir.Undefined)
    one = builder.insert_element(undef, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undef, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    name = f"llvm.fma.v{LANES}f32"
    fn = builder.module.globals.get(name)
    if fn is None:
        fn = ir.Function(builder.module, ir.FunctionType(_VEC, [_VEC] * 3), name)
    return builder.call(fn, [a, b, c])


def _emit_tile(builder: Any, vectors: int, args: Any) -> None:
    a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count = args
    const = lambda v: ir.Constant(_I64, v)  # noqa: E731
    at = lambda base, stride, r: builder.add(base, builder.mul(stride, const(r)))  # noqa: E731
    column = lambda base, v: builder.add(base, const(4 * LANES * v))  # noqa: E731
    start = [
        _load(builder, column(at(c0, c0_row, r), v), _VEC)
        for r in range(ROWS)
        for v in range(vectors)
    ]
    entry = builder.block
    loop = builder.append_basic_block("gemm.loop")
    done = builder.append_basic_block("gemm.done")
    builder.cbranch(builder.icmp_signed(">", count, const(0)), loop, done)
    builder.position_at_end(loop)
    k, a_now, b_now = builder.phi(_I64), builder.phi(_I64), builder.phi(_I64)
    acc = [builder.phi(_VEC) for _ in start]
    for phi, value in zip([k, a_now, b_now, *acc], [const(0), a, b, *start], strict=True):
        phi.add_incoming(value, entry)
    row = [_load(builder, column(b_now, v), _VEC) for v in range(vectors)]
    new = []
    for r in range(ROWS):
        left = _splat(builder, _load(builder, at(a_now, a_row, r), _F32))
        new += [_fma(builder, left, row[v], acc[r * vectors + v]) for v in range(vectors)]
    after = [builder.add(k, const(1)), builder.add(a_now, a_k), builder.add(b_now, b_k)]
    for phi, value in zip([k, a_now, b_now, *acc], [*after, *new], strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", after[0], count), loop, done)
    builder.position_at_end(done)
    for i, (first, last) in enumerate(zip(start, new, strict=True)):
        total = builder.phi(_VEC)
        total.add_incoming(first, entry)
        total.add_incoming(last, loop)
        start[i] = total
    for r in range(ROWS):
        for v in range(vectors):
            _store(builder, start[r * vectors + v], column(at(c, c_row, r), v))


def _make_tile(vectors: int) -> Any:
    @intrinsic
    def tile(typingctx, a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count):
        def codegen(context, builder, signature, args):
            _emit_tile(builder, vectors, args)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), codegen

    return tile


_tile1, _tile2, _tile3, _tile4 = (_make_tile(v) for v in (1, 2, 3, 4))


@njit(nogil=True)
def gemm(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, rows, cols, count):
    """C = C0 + A B for ``rows`` (a multiple of 4) and ``cols`` (a multiple of 16)."""
    for r in range(0, rows, 4):
        ar, cr, c0r = a + r * a_row, c + r * c_row, c0 + r * c0_row
        v = 0
        left = cols // 16
        while left > 0:
            s = 64 * v
            if left >= 4:
                _tile4(ar, a_row, a_k, b + s, b_k, cr + s, c_row, c0r + s, c0_row, count)
            elif left == 3:
                _tile3(ar, a_row, a_k, b + s, b_k, cr + s, c_row, c0r + s, c0_row, count)
            elif left == 2:
                _tile2(ar, a_row, a_k, b + s, b_k, cr + s, c_row, c0r + s, c0_row, count)
            else:
                _tile1(ar, a_row, a_k, b + s, b_k, cr + s, c_row, c0r + s, c0_row, count)
            v += 4
            left -= 4


def _emit_transpose(builder: Any, args: Any) -> None:
    source, source_row, target, target_row = args
    rows = [
        _load(builder, builder.add(source, builder.mul(source_row, ir.Constant(_I64, r))), _VEC)
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
                mask = ir.Constant(ir.VectorType(_I32, LANES), lanes)
                new[index] = builder.shuffle_vector(rows[r], rows[r + half], mask)
        rows = new
        half //= 2
    for r in range(LANES):
        place = builder.add(target, builder.mul(target_row, ir.Constant(_I64, r)))
        _store(builder, rows[r], place)


@intrinsic
def transpose16(typingctx, source, source_row, target, target_row):
    """Transpose a 16 x 16 block of float32 between two byte addresses with byte row strides."""

    def codegen(context, builder, signature, args):
        _emit_transpose(builder, args)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), codegen


def _emit_dot(builder: Any, args: Any) -> Any:
    a, b, vectors = args
    const = lambda v: ir.Constant(_I64, v)  # noqa: E731
    entry = builder.block
    loop = builder.append_basic_block("dot.loop")
    done = builder.append_basic_block("dot.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, acc = builder.phi(_I64), builder.phi(_VEC)
    k.add_incoming(const(0), entry)
    acc.add_incoming(ir.Constant(_VEC, [0.0] * LANES), entry)
    shift = builder.mul(k, const(4 * LANES))
    left = _load(builder, builder.add(a, shift), _VEC)
    new = _fma(builder, left, _load(builder, builder.add(b, shift), _VEC), acc)
    after = builder.add(k, const(1))
    k.add_incoming(after, loop)
    acc.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", after, vectors), loop, done)
    builder.position_at_end(done)
    total, undef, half = new, ir.Constant(_VEC, ir.Undefined), LANES // 2
    while half:
        lanes = [(i + half) % LANES for i in range(LANES)]
        mask = ir.Constant(ir.VectorType(_I32, LANES), lanes)
        total = builder.fadd(total, builder.shuffle_vector(total, undef, mask))
        half //= 2
    return builder.extract_element(total, ir.Constant(_I32, 0))


@intrinsic
def dot16(typingctx, a, b, vectors):
    """Dot product of ``vectors`` >= 1 vectors of 16 float32 at two byte addresses."""

    def codegen(context, builder, signature, args):
        return _emit_dot(builder, args)

    return types.float32(types.intp, types.intp, types.intp), codegen
