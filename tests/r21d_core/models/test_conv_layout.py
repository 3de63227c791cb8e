"""Other forms of a convolution compute the same."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from r21d_core.models import conv_layout
from r21d_core.models.conv_layout import convolve, pack_weight, unpack_weight

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAST = torch.channels_last_3d


@pytest.mark.parametrize("shape", [(2, 3, 2, 6, 8), (1, 2, 3, 7, 10), (2, 5, 1, 9, 13), (1, 3, 1, 2, 33)])
def test_stem_kernel_moves_pixels_to_depth(shape):
    stem_kernel = pytest.importorskip("r21d_core.models.stem_kernel", exc_type=ImportError)
    clips = torch.randn(shape)
    expected = conv_layout.space_to_depth(clips, torch.float16)
    actual = stem_kernel.space_to_depth(clips.to(DEVICE), torch.float16).cpu()
    assert torch.equal(actual, expected) and actual.stride() == expected.stride()


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize(("in_channels", "out_channels", "pairs"), [(8, 64, 1), (64, 24, 1), (64, 64, 2), (8, 8, 0)])
def test_two_pixels_at_once_for_64_channels(in_channels, out_channels, pairs, width, monkeypatch):
    monkeypatch.setattr(conv_layout, "WIDE_TILE_DEVICES", ("cpu",))
    calls, run = [], conv_layout.convolve_pairs
    monkeypatch.setattr(conv_layout, "convolve_pairs", lambda *operands: calls.append(1) or run(*operands))
    conv = nn.Conv3d(in_channels, out_channels, (1, 3, 3), padding=(0, 1, 1), bias=False).double()
    x = torch.randn(2, in_channels, 3, 5, width, dtype=torch.float64).to(memory_format=LAST).requires_grad_()
    packed, prepared = pack_weight(conv, conv.weight, torch.float64), conv_layout.prepare_input(conv, x, torch.float64)
    expected = conv(x)
    dy = torch.randn_like(expected)
    assert_close(convolve(conv, prepared, packed, x.shape), expected)
    dx, dw = conv_layout.conv_gradients(conv, dy, prepared.detach(), packed, x.shape, (True, True))
    expected.backward(dy)
    assert_close(dx, x.grad)
    assert_close(unpack_weight(conv, dw, conv.weight), conv.weight.grad)
    assert len(calls) == pairs * (width % 2 == 0) and dx.is_contiguous(memory_format=LAST)
