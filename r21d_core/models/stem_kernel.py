"""Space to depth for the stem in one pass over memory, in Triton; see `conv_layout.space_to_depth`."""

# Triton turns arguments into constants and adds launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _store_line(clips, blocks, H, W, lines, C: tl.constexpr, PADDED: tl.constexpr, ELEMENTS: tl.constexpr,
                BLOCK: tl.constexpr):  # fmt: skip
    """Store a line of positions, ELEMENTS values: blocks of 2 rows of 4 pixels of PADDED channels, the last 0."""
    program, local = tl.program_id(0), tl.arange(0, BLOCK)
    frame, line = program // lines, program % lines
    channel, column = local % PADDED, local // PADDED % 4
    row, block = local // (4 * PADDED) % 2, local // (8 * PADDED)
    y, x = 2 * (line - 2) + row, 4 * (block - 1) + column
    inside = (y >= 0) & (y < H) & (x >= 0) & (x < W) & (channel < C)
    pixels = clips + tl.cast(frame, tl.int64) * H * W * C + (y * W + x) * C + channel
    value = tl.load(pixels, mask=inside, other=0.0).to(blocks.dtype.element_ty)
    tl.store(blocks + tl.cast(program, tl.int64) * ELEMENTS + local, value, mask=local < ELEMENTS)


def space_to_depth(clips: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what `conv_layout.space_to_depth` does."""
    n, c, t, h, w = clips.shape
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    lines, wide, padded = -(-h // 2) + 3, -(-w // 8) + 1, -(-c // 4) * 4
    blocks = clips.new_empty(n, t, lines, wide, 16 * padded, dtype=dtype)
    elements = blocks.stride(2)
    _store_line[(n * t * lines,)](clips, blocks, h, w, lines, c, padded, elements, triton.next_power_of_2(elements))
    return blocks.permute(0, 4, 1, 2, 3)
