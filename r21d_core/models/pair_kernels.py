"""Triton kernels of (2+1)D pairs: convolutions with parts of the batch norms around them; see `fused_pair`.

x (N, T, P, C) are the midplanes, which the spatial convolution gives, not normalized: P pixels a frame, channels last.
y (N, T, P, O) is the output of the temporal convolution.
    h[t] = relu((x[t] − mean)·scale + bias)    in 16 bits, never written
    y[t] = Σ_k h[t + k − 1]·W[k]ᵀ
    dW[k] = Σ dy[t + 1 − k]ᵀ·h[t]
Memory traffic, |x| and |y| being the bytes of x and y; in conv2_x of R(2+1)D |x| is 2.25 |y|:
    pair_spatial_forward    writes x             |x|         and its input
    pair_forward            reads x, writes y    |x| + |y|
    pair_weight_gradient    reads x and dy       |x| + |y|
Separate kernels move 4|x| + |y| more forward: two batch norms sum their input, and one is applied and h is read.

Tiles need powers of two, which the number of midplanes rarely is: C is C1 + C2, such as 144 = 128 + 16.
`table` has the rows mean, scale and bias of C channels. A thread has dozens of channels, whose rows would fill its
registers. So they are read for each tile, at `t · zero`, or the compiler would read them only once.
"""

# Triton turns arguments into constants and adds launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _normalize_relu(x, table, c, C: tl.constexpr):
    mean, scale, bias = tl.load(table + c), tl.load(table + C + c), tl.load(table + 2 * C + c)
    z = (x.to(tl.float32) - mean[None, :]) * scale[None, :] + bias[None, :]
    return tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL).to(x.dtype)


@triton.jit
def _add_row_pairs(x, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Return (ROWS / 16, 8, WIDTH): sums of the two rows of a product that one thread has, so that no thread waits."""
    return tl.sum(tl.reshape(x, [ROWS // 16, 2, 8, WIDTH]), 1)


@triton.jit
def _store_with_statistics(y, pointers, inside, shift, sums, squares):
    """Store y, and Σ(y − k) and Σ(y − k)² of what is stored."""
    y = y.to(pointers.dtype.element_ty)
    tl.store(pointers, y, mask=inside)
    value = tl.where(inside, y.to(tl.float32) - shift[None, :], 0.0)
    tl.store(sums, tl.sum(value, 0))
    tl.store(squares, tl.sum(value * value, 0))


@triton.jit(do_not_specialize=["rows", "real"])
def pair_spatial_forward(x, weight, y, running_mean, shifts, sums, squares, rows, H, W, real, IN: tl.constexpr,
                         C: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, ROWS: tl.constexpr,
                         STAGES: tl.constexpr):  # fmt: skip
    """Store the 1×3×3 convolution y (rows, C) of x (rows, IN), and Σ(y − k) and Σ(y − k)² of each program.

    Rows are the pixels of all frames, and a program has ROWS of them. `weight` is (C, 3, 3, IN), k is `running_mean`.
    """
    program, local = tl.program_id(0), tl.arange(0, ROWS)
    first = tl.cast(program, tl.int64) * ROWS
    position = (first % (H * W)).to(tl.int32) + local
    column, line = position % W, position // W % H
    exists = local < rows - first
    i, c1, c2 = tl.arange(0, IN), tl.arange(0, C1), C1 + tl.arange(0, C2)
    shift1 = tl.load(running_mean + c1, mask=c1 < real, other=0.0)
    shift2 = tl.load(running_mean + c2, mask=c2 < real, other=0.0)
    if program == 0:
        tl.store(shifts + c1, shift1)
        tl.store(shifts + c2, shift2)
    y1 = tl.zeros([ROWS, C1], tl.float32)
    y2 = tl.zeros([ROWS, C2], tl.float32)
    for tap in tl.range(0, 9, num_stages=STAGES):
        down, right = tap // 3 - 1, tap % 3 - 1
        inside = exists & (line + down >= 0) & (line + down < H) & (column + right >= 0) & (column + right < W)
        pixels = x + first * IN + (local + down * W + right)[:, None] * IN + i[None, :]
        pixel = tl.load(pixels, mask=inside[:, None], other=0.0)
        y1 = tl.dot(pixel, tl.load(weight + tap * IN + c1[None, :] * 9 * IN + i[:, None]), y1)
        y2 = tl.dot(pixel, tl.load(weight + tap * IN + c2[None, :] * 9 * IN + i[:, None]), y2)
    to, part = y + first * C + local[:, None] * C, program * C
    _store_with_statistics(y1, to + c1[None, :], exists[:, None], shift1, sums + part + c1, squares + part + c1)
    _store_with_statistics(y2, to + c2[None, :], exists[:, None], shift2, sums + part + c2, squares + part + c2)


@triton.jit(do_not_specialize=["zero", "T", "real"])
def pair_forward(x, weight, y, table, running_mean, shifts, sums, squares, zero, T, P, real, C: tl.constexpr,
                 C1: tl.constexpr, C2: tl.constexpr, OUT: tl.constexpr, ROWS: tl.constexpr,
                 STAGES: tl.constexpr):  # fmt: skip
    """Store y, and Σ(y − k) and Σ(y − k)² of each program, k being the running mean of the batch norm behind y.

    A program walks through the frames of ROWS pixels of a clip and reads each frame once: it adds h[t] to y[t − 1],
    y[t] and y[t + 1]. `weight` is (O, 3, C).
    """
    program, tiles = tl.program_id(0), tl.cdiv(P, ROWS)
    n, pixel = program // tiles, (program % tiles) * ROWS + tl.arange(0, ROWS)
    inside = (pixel < P)[:, None]
    c1, c2, o = tl.arange(0, C1), C1 + tl.arange(0, C2), tl.arange(0, OUT)
    shift = tl.load(running_mean + o, mask=o < real, other=0.0)
    if program == 0:
        tl.store(shifts + o, shift)
    w1, w2 = weight + o[None, :] * 3 * C + c1[:, None], weight + o[None, :] * 3 * C + c2[:, None]
    first1, first2 = tl.load(w1), tl.load(w2)
    center1, center2 = tl.load(w1 + C), tl.load(w2 + C)
    last1, last2 = tl.load(w1 + 2 * C), tl.load(w2 + 2 * C)
    clip = tl.cast(n * T, tl.int64) * P
    from1 = x + clip * C + pixel[:, None] * C + c1[None, :]
    from2 = x + clip * C + pixel[:, None] * C + c2[None, :]
    to = y + clip * OUT + pixel[:, None] * OUT + o[None, :]
    before = tl.zeros([ROWS, OUT], tl.float32)  # y[t − 1] without h[t]
    here = tl.zeros([ROWS, OUT], tl.float32)  # y[t] with h[t − 1] alone
    s = tl.zeros([ROWS // 16, 8, OUT], tl.float32)
    q = tl.zeros([ROWS // 16, 8, OUT], tl.float32)
    for t in tl.range(0, T, num_stages=STAGES):
        h1 = _normalize_relu(tl.load(from1 + t * P * C, mask=inside, other=0.0), table + t * zero, c1, C)
        h2 = _normalize_relu(tl.load(from2 + t * P * C, mask=inside, other=0.0), table + t * zero, c2, C)
        before = tl.dot(h2, last2, tl.dot(h1, last1, before))
        here = tl.dot(h2, center2, tl.dot(h1, center1, here))
        after = tl.dot(h2, first2, tl.dot(h1, first1))
        exists = inside & (t > 0)
        rounded = before.to(y.dtype.element_ty)
        tl.store(to + (t - 1) * P * OUT, rounded, mask=exists)
        value = tl.where(exists, rounded.to(tl.float32) - shift[None, :], 0.0)
        s += _add_row_pairs(value, ROWS, OUT)
        q += _add_row_pairs(value * value, ROWS, OUT)
        before = here
        here = after
    rounded = before.to(y.dtype.element_ty)
    tl.store(to + (T - 1) * P * OUT, rounded, mask=inside)
    value = tl.where(inside, rounded.to(tl.float32) - shift[None, :], 0.0)
    s += _add_row_pairs(value, ROWS, OUT)
    q += _add_row_pairs(value * value, ROWS, OUT)
    tl.store(sums + program * OUT + o, tl.sum(tl.sum(s, 0), 0))
    tl.store(squares + program * OUT + o, tl.sum(tl.sum(q, 0), 0))


@triton.jit(do_not_specialize=["zero", "N", "T"])
def pair_weight_gradient(x, dy, table, d_weight, zero, N, T, P, C: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr,
                         OUT: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Store dW of each program, (programs, O, 3, C).

    A program takes the tiles of ROWS pixels of a clip in turn, frame by frame.
    """
    program, programs, tiles = tl.program_id(0), tl.num_programs(0), tl.cdiv(P, ROWS)
    c1, c2, o = tl.arange(0, C1), C1 + tl.arange(0, C2), tl.arange(0, OUT)
    first1 = tl.zeros([OUT, C1], tl.float32)
    first2 = tl.zeros([OUT, C2], tl.float32)
    center1 = tl.zeros([OUT, C1], tl.float32)
    center2 = tl.zeros([OUT, C2], tl.float32)
    last1 = tl.zeros([OUT, C1], tl.float32)
    last2 = tl.zeros([OUT, C2], tl.float32)
    steps = (N * tiles - program + programs - 1) // programs * T
    for step in tl.range(0, steps, num_stages=STAGES):
        tile, t = program + step // T * programs, step % T
        n, pixel = tile // tiles, (tile % tiles) * ROWS + tl.arange(0, ROWS)
        inside = (pixel < P)[:, None]
        frame = tl.cast(n * T + t, tl.int64) * P
        from1 = x + frame * C + pixel[:, None] * C + c1[None, :]
        from2 = x + frame * C + pixel[:, None] * C + c2[None, :]
        from_dy = dy + frame * OUT + pixel[:, None] * OUT + o[None, :]
        ago = tl.trans(tl.load(from_dy - P * OUT, mask=inside & (t > 0), other=0.0))
        now = tl.trans(tl.load(from_dy, mask=inside, other=0.0))
        after = tl.trans(tl.load(from_dy + P * OUT, mask=inside & (t + 1 < T), other=0.0))
        h1 = _normalize_relu(tl.load(from1, mask=inside, other=0.0), table + step * zero, c1, C)
        h2 = _normalize_relu(tl.load(from2, mask=inside, other=0.0), table + step * zero, c2, C)
        first1, first2 = tl.dot(after, h1, first1), tl.dot(after, h2, first2)
        center1, center2 = tl.dot(now, h1, center1), tl.dot(now, h2, center2)
        last1, last2 = tl.dot(ago, h1, last1), tl.dot(ago, h2, last2)
    to = d_weight + program * 3 * OUT * C + o[:, None] * 3 * C
    tl.store(to + c1[None, :], first1)
    tl.store(to + c2[None, :], first2)
    tl.store(to + C + c1[None, :], center1)
    tl.store(to + C + c2[None, :], center2)
    tl.store(to + 2 * C + c1[None, :], last1)
    tl.store(to + 2 * C + c2[None, :], last2)


@triton.jit(do_not_specialize=["T"])
def pair_inference(wide, narrow, weight, bias, residual, y, T, P, C: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr,
                   OUT: tl.constexpr, ADD: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Store relu(Σ_k h[t + k − 1]·W[k]ᵀ + bias), with ADD plus residual, where h is `wide` (N, T, P, C1) and `narrow`.

    A program walks through the frames of ROWS pixels of a clip, as in `pair_forward`. `weight` is (O, 3, C).
    """
    program, tiles = tl.program_id(0), tl.cdiv(P, ROWS)
    n, pixel = program // tiles, (program % tiles) * ROWS + tl.arange(0, ROWS)
    inside = (pixel < P)[:, None]
    c1, c2, o = tl.arange(0, C1), tl.arange(0, C2), tl.arange(0, OUT)
    w1, w2 = weight + o[None, :] * 3 * C + c1[:, None], weight + o[None, :] * 3 * C + C1 + c2[:, None]
    first1, first2 = tl.load(w1), tl.load(w2)
    center1, center2 = tl.load(w1 + C), tl.load(w2 + C)
    last1, last2 = tl.load(w1 + 2 * C), tl.load(w2 + 2 * C)
    clip = tl.cast(n * T, tl.int64) * P
    from1 = wide + clip * C1 + pixel[:, None] * C1 + c1[None, :]
    from2 = narrow + clip * C2 + pixel[:, None] * C2 + c2[None, :]
    to = clip * OUT + pixel[:, None] * OUT + o[None, :]
    shift = tl.load(bias + o).to(tl.float32)[None, :]
    before = tl.zeros([ROWS, OUT], tl.float32)  # y[t − 1] without h[t]
    here = tl.zeros([ROWS, OUT], tl.float32)  # y[t] with h[t − 1] alone
    for t in tl.range(0, T + 1, num_stages=STAGES):
        h1 = tl.load(from1 + t * P * C1, mask=inside & (t < T), other=0.0)
        h2 = tl.load(from2 + t * P * C2, mask=inside & (t < T), other=0.0)
        before = tl.dot(h2, last2, tl.dot(h1, last1, before))
        here = tl.dot(h2, center2, tl.dot(h1, center1, here))
        after = tl.dot(h2, first2, tl.dot(h1, first1))
        value, place, exists = before + shift, to + (t - 1) * P * OUT, inside & (t > 0)
        if ADD:
            value += tl.load(residual + place, mask=exists, other=0.0).to(tl.float32)
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
        tl.store(y + place, value.to(y.dtype.element_ty), mask=exists)
        before = here
        here = after
