"""Triton kernels of training batch norm, ReLU and residual sum on channels-last activations; see `fused_bn`."""

# Triton turns arguments into constants and adds launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(pointer, offsets, remaining, MASKED: tl.constexpr):
    if MASKED:
        return tl.load(pointer + offsets, mask=offsets < remaining, other=0).to(tl.float32)
    else:
        return tl.load(pointer + offsets).to(tl.float32)


@triton.jit
def _store(pointer, offsets, remaining, value, MASKED: tl.constexpr):
    if MASKED:
        tl.store(pointer + offsets, value.to(pointer.dtype.element_ty), mask=offsets < remaining)
    else:
        tl.store(pointer + offsets, value.to(pointer.dtype.element_ty))


@triton.jit(do_not_specialize=["elements", "sample_stride", "channels"])
def bn_statistics(x, shifts, sums, squares, elements, sample_stride, span, channels,
                  ROWS: tl.constexpr, BLOCK: tl.constexpr, SAMPLES: tl.constexpr):  # fmt: skip
    """Store Σ(x − k) and Σ(x − k)² of each column and split, k being the channel's mean over SAMPLES rows.

    With k = 0 the sum of squares would lose a variance that is small beside the squared mean.
    """
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split, splits = tl.program_id(1), tl.num_programs(1)
    samples = tl.arange(0, SAMPLES)[:, None].to(tl.int64) * sample_stride + (columns % channels)[None, :]
    shift = tl.sum(tl.load(x + samples).to(tl.float32), 0) / SAMPLES
    tl.store(shifts + columns, shift, mask=(columns < channels) & (split == 0))
    offsets = tl.arange(0, ROWS)[:, None] * span + columns[None, :]
    tile = tl.cast(ROWS * span, tl.int64)
    full = elements // tile
    s = tl.zeros([ROWS, BLOCK], tl.float32)
    q = tl.zeros([ROWS, BLOCK], tl.float32)
    for number in range(split, full, splits):
        value = _load(x + number * tile, offsets, 0, False) - shift[None, :]
        s += value
        q += value * value
    if split == splits - 1:
        remaining = elements - full * tile
        value = _load(x + full * tile, offsets, remaining, True) - shift[None, :]
        value = tl.where(offsets < remaining, value, 0.0)
        s += value
        q += value * value
    slot = split * span + columns
    tl.store(sums + slot, tl.sum(s, 0))
    tl.store(squares + slot, tl.sum(q, 0))


@triton.jit
def _total(values, channel, parts, channels, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    total = tl.zeros([PARTS, WIDTH], tl.float32)
    for start in range(0, parts, PARTS):
        row = start + tl.arange(0, PARTS)
        mask = (row < parts)[:, None] & (channel < channels)[None, :]
        total += tl.load(values + row[:, None] * channels + channel[None, :], mask=mask, other=0)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=["count", "parts", "channels", "real"])
def bn_finish_statistics(shifts, sums, squares, weight, bias, running_mean, running_var, num_batches, table,
                         count, parts, channels, real, momentum, eps,
                         PARTS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """Store the rows mean, scale, bias and 1/std of `table`; update the running statistics. A padded channel has 0."""
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    padded_mask, real_mask = channel < channels, channel < real
    offset = _total(sums, channel, parts, channels, PARTS, WIDTH) / count
    var = tl.maximum(_total(squares, channel, parts, channels, PARTS, WIDTH) / count - offset * offset, 0.0)
    mean = tl.load(shifts + channel, mask=padded_mask, other=0) + offset
    rstd = 1.0 / tl.sqrt(var + eps)
    tl.store(table + channel, mean, mask=padded_mask)
    tl.store(table + channels + channel, rstd * tl.load(weight + channel, mask=real_mask, other=0), mask=padded_mask)
    tl.store(table + 2 * channels + channel, tl.load(bias + channel, mask=real_mask, other=0), mask=padded_mask)
    tl.store(table + 3 * channels + channel, rstd, mask=padded_mask)
    before = tl.load(running_mean + channel, mask=real_mask)
    tl.store(running_mean + channel, before + momentum * (mean - before), mask=real_mask)
    before = tl.load(running_var + channel, mask=real_mask)
    unbiased = var * (count / (count - 1.0))
    tl.store(running_var + channel, before + momentum * (unbiased - before), mask=real_mask)
    if tl.program_id(0) == 0:
        tl.store(num_batches, tl.load(num_batches) + 1)


@triton.jit
def _apply_tile(x, residual, out, begin, offsets, remaining, mean, scale, bias,
                RELU: tl.constexpr, ADD: tl.constexpr, MASKED: tl.constexpr):  # fmt: skip
    value = (_load(x + begin, offsets, remaining, MASKED) - mean) * scale + bias
    if ADD:
        value += _load(residual + begin, offsets, remaining, MASKED)
    if RELU:
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    _store(out + begin, offsets, remaining, value, MASKED)


@triton.jit(do_not_specialize=["elements", "channels"])
def bn_apply(x, residual, out, table, elements, span, channels,
             RELU: tl.constexpr, ADD: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Store relu((x − mean)·scale + bias + residual), from the end, which the last pass left in the cache."""
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split, splits = tl.program_id(1), tl.num_programs(1)
    channel = columns % channels
    mean = tl.load(table + channel)[None, :]
    scale = tl.load(table + channels + channel)[None, :]
    bias = tl.load(table + 2 * channels + channel)[None, :]
    offsets = tl.arange(0, ROWS)[:, None] * span + columns[None, :]
    tile = tl.cast(ROWS * span, tl.int64)
    full = elements // tile
    if split == splits - 1:
        remaining = elements - full * tile
        _apply_tile(x, residual, out, full * tile, offsets, remaining, mean, scale, bias, RELU, ADD, True)
    for number in range(split, full, splits):
        begin = (full - 1 - number) * tile
        _apply_tile(x, residual, out, begin, offsets, 0, mean, scale, bias, RELU, ADD, False)


@triton.jit
def _masked_gradient(dy, dy_skip, x, out, g_out, begin, offsets, remaining, mean, scale, bias, MASK: tl.constexpr,
                     HAS_SKIP: tl.constexpr, STORE: tl.constexpr, MASKED: tl.constexpr):  # fmt: skip
    """Return g, the gradient of the ReLU's input, and x − mean."""
    g = _load(dy + begin, offsets, remaining, MASKED)
    if HAS_SKIP:
        g += _load(dy_skip + begin, offsets, remaining, MASKED)
    x_hat = _load(x + begin, offsets, remaining, MASKED) - mean
    if MASK == "x":
        g = tl.where(x_hat * scale + bias > 0, g, 0.0)
    elif MASK == "out":
        g = tl.where(_load(out + begin, offsets, remaining, MASKED) > 0, g, 0.0)
    if STORE:
        _store(g_out + begin, offsets, remaining, g, MASKED)
        g = g.to(g_out.dtype.element_ty).to(tl.float32)  # sum what the next pass reads
    return g, x_hat


@triton.jit(do_not_specialize=["elements", "channels"])
def bn_gradient_sums(dy, dy_skip, x, out, g_out, table, sums, products, elements, span, channels,
                     MASK: tl.constexpr, HAS_SKIP: tl.constexpr, STORE: tl.constexpr,
                     ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Store Σg and Σg·(x − mean) of each column and split, and with STORE g; g is the gradient of the ReLU's input."""
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split, splits = tl.program_id(1), tl.num_programs(1)
    channel = columns % channels
    mean = tl.load(table + channel)[None, :]
    scale = tl.load(table + channels + channel)[None, :]
    bias = tl.load(table + 2 * channels + channel)[None, :]
    offsets = tl.arange(0, ROWS)[:, None] * span + columns[None, :]
    tile = tl.cast(ROWS * span, tl.int64)
    full = elements // tile
    s = tl.zeros([ROWS, BLOCK], tl.float32)
    p = tl.zeros([ROWS, BLOCK], tl.float32)
    for number in range(split, full, splits):
        g, x_hat = _masked_gradient(
            dy, dy_skip, x, out, g_out, number * tile, offsets, 0, mean, scale, bias, MASK, HAS_SKIP, STORE, False
        )
        s += g
        p += g * x_hat
    if split == splits - 1:
        remaining = elements - full * tile
        g, x_hat = _masked_gradient(
            dy, dy_skip, x, out, g_out, full * tile, offsets, remaining, mean, scale, bias, MASK, HAS_SKIP, STORE, True
        )
        s += g  # past the end g is 0
        p += g * x_hat
    slot = split * span + columns
    tl.store(sums + slot, tl.sum(s, 0))
    tl.store(products + slot, tl.sum(p, 0))


@triton.jit(do_not_specialize=["count", "parts", "channels", "real"])
def bn_finish_gradient(sums, products, table, factors, d_weight, d_bias, count, parts, channels, real,
                       PARTS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """Store the gradients of weight and bias, and b and c of dx = scale·g + b·(x − mean) + c as rows of `factors`."""
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    padded_mask, real_mask = channel < channels, channel < real
    s = _total(sums, channel, parts, channels, PARTS, WIDTH)
    p = _total(products, channel, parts, channels, PARTS, WIDTH)
    scale = tl.load(table + channels + channel, mask=padded_mask, other=0)
    rstd = tl.load(table + 3 * channels + channel, mask=padded_mask, other=0)
    tl.store(d_weight + channel, p * rstd, mask=real_mask)
    tl.store(d_bias + channel, s, mask=real_mask)
    tl.store(factors + channel, -scale * rstd * rstd * p / count, mask=padded_mask)
    tl.store(factors + channels + channel, -scale * s / count, mask=padded_mask)


@triton.jit
def _dx_tile(dy, x, dx, begin, offsets, remaining, mean, scale, bias, b, c, MASK: tl.constexpr, MASKED: tl.constexpr):
    g, x_hat = _masked_gradient(
        dy, dy, x, x, dx, begin, offsets, remaining, mean, scale, bias, MASK, False, False, MASKED
    )
    _store(dx + begin, offsets, remaining, g * scale + x_hat * b + c, MASKED)


@triton.jit(do_not_specialize=["elements", "channels"])
def bn_dx(dy, x, dx, table, factors, elements, span, channels,
          MASK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Store dx = scale·g + b·(x − mean) + c."""
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split, splits = tl.program_id(1), tl.num_programs(1)
    channel = columns % channels
    mean = tl.load(table + channel)[None, :]
    scale = tl.load(table + channels + channel)[None, :]
    bias = tl.load(table + 2 * channels + channel)[None, :]
    b = tl.load(factors + channel)[None, :]
    c = tl.load(factors + channels + channel)[None, :]
    offsets = tl.arange(0, ROWS)[:, None] * span + columns[None, :]
    tile = tl.cast(ROWS * span, tl.int64)
    full = elements // tile
    if split == splits - 1:
        remaining = elements - full * tile
        _dx_tile(dy, x, dx, full * tile, offsets, remaining, mean, scale, bias, b, c, MASK, True)
    for number in range(split, full, splits):
        begin = (full - 1 - number) * tile
        _dx_tile(dy, x, dx, begin, offsets, 0, mean, scale, bias, b, c, MASK, False)
