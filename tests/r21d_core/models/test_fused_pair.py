"""The kernels of (2+1)D pairs compute what PyTorch does in float64; on the CPU Triton interprets them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from r21d_core.models import fast_forward
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.network import VideoResNet
from tests.networks import few_programs

fused_pair = pytest.importorskip("r21d_core.models.fused_pair", exc_type=ImportError)
fused_bn = pytest.importorskip("r21d_core.models.fused_bn", exc_type=ImportError)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Products are tf32 on a GPU, and the interpreter has none of bf16.
DTYPES = [torch.float16, torch.bfloat16] if DEVICE == "cuda" else [torch.float16, torch.float32]
EPSILON = {torch.float32: 1e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}  # of relative norms of errors


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles of a clip and programs of the interpreter; a GPU gets what it gets in training."""
    if DEVICE == "cpu":
        for name in ("SPATIAL", "FORWARD", "INFERENCE", "WEIGHT", "NARROW_WEIGHT"):
            monkeypatch.setattr(fused_pair, name, getattr(fused_pair, name)._replace(rows=16))
        monkeypatch.setattr(fused_pair, "multiprocessors", lambda device: 3)
        few_programs(monkeypatch, fused_bn)


def make_midplanes(size, real, padded, dtype, shift=0.0):
    """Return channels-last midplanes, zero where padded."""
    n, t, h, w = size
    x = torch.zeros(n, t, h, w, padded)
    x[..., :real] = torch.randn(n, t, h, w, real) + shift * torch.randn(real)
    return x.to(DEVICE, dtype).permute(0, 4, 1, 2, 3)


def make_norm(channels):
    norm = nn.BatchNorm3d(channels, eps=1e-3)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias, 0, 0.5)
    nn.init.normal_(norm.running_mean)
    return norm.to(DEVICE)


def assert_near(actual, expected, within):
    assert actual.shape == expected.shape
    assert (actual.double() - expected).norm() <= within * expected.norm()


def assert_statistics(statistics, y, norm, within):
    """They are of what is stored, padded channels included, around the running mean that the batch norm had."""
    parts, channels = len(statistics) // 2, y.shape[1]
    shift = F.pad(norm.running_mean, (0, channels - norm.num_features))
    assert torch.equal(statistics[-1], shift)
    centered = (y.detach().double() - shift.view(1, -1, 1, 1, 1)).transpose(0, 1).flatten(1)
    assert_near(statistics[:parts].sum(0), centered.sum(1), within)
    assert_near(statistics[parts:-1].sum(0), centered.square().sum(1), within)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "real", "padded", "out_channels", "shift"),
    [
        ((2, 3, 4, 4), 48, 48, 16, 0.0),  # whole tiles
        ((2, 4, 3, 7), 45, 48, 16, 1.0),  # the stem's padding; tiles that end behind the clip
        ((3, 1, 5, 5), 144, 144, 64, 0.0),  # a single frame
        ((1, 2, 9, 5), 77, 80, 32, 20.0),  # a mean that is large beside the deviation
    ],
)
def test_pair_is_that_of_float64(size, real, padded, out_channels, shift, dtype):
    shift = shift if dtype == torch.float32 else min(shift, 2.0)
    x = make_midplanes(size, real, padded, dtype, shift).requires_grad_()
    norm, next_norm = make_norm(real), make_norm(out_channels)
    conv = nn.Conv3d(real, out_channels, (3, 1, 1), 1, (1, 0, 0), bias=False).to(DEVICE)
    exact_norm, exact_conv = copy.deepcopy(norm).double(), copy.deepcopy(conv).double()
    assert fused_pair.can_fuse(conv, x)
    y, statistics = fused_pair.norm_relu_conv(x, norm, conv, next_norm)
    dy = torch.randn(y.shape, device=DEVICE).to(dtype, memory_format=torch.channels_last_3d)
    y.backward(dy)

    x64 = x.detach()[:, :real].double().requires_grad_()
    y64 = exact_conv(exact_norm(x64).relu())
    y64.backward(dy.double())
    within = 2 * EPSILON[dtype]
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert_near(y.detach(), y64.detach(), within)
    assert_near(x.grad[:, :real], x64.grad, within)
    assert_near(conv.weight.grad, exact_conv.weight.grad, within)
    assert_near(norm.weight.grad, exact_norm.weight.grad, within)
    assert_near(norm.bias.grad, exact_norm.bias.grad, within)
    assert_near(norm.running_mean, exact_norm.running_mean, 1e-5)
    assert_near(norm.running_var, exact_norm.running_var, 1e-4)
    assert norm.num_batches_tracked == 1 and not x.grad[:, real:].any()
    assert_statistics(statistics, y, next_norm, 1e-5)


def test_pair_passes_nan_on():
    x = make_midplanes((1, 2, 4, 4), 48, 48, torch.float16)
    x[0, 3, 0, 0, 0] = torch.nan
    conv = nn.Conv3d(48, 16, (3, 1, 1), 1, (1, 0, 0), bias=False).to(DEVICE)
    assert fused_pair.norm_relu_conv(x, make_norm(48), conv, make_norm(16))[0].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "in_channels", "out_channels"), [((2, 3, 4, 4), 16, 48), ((1, 2, 5, 7), 32, 77), ((1, 3, 9, 3), 64, 144)]
)
def test_spatial_convolution_gives_its_statistics(size, in_channels, out_channels, dtype):
    conv = nn.Conv3d(in_channels, out_channels, (1, 3, 3), 1, (0, 1, 1), bias=False).to(DEVICE)
    norm = make_norm(out_channels)
    x = make_midplanes(size, in_channels, in_channels, dtype)
    packed, prepared = fused_pair.pack_weight(conv, conv.weight, dtype), x.transpose(1, 2).flatten(0, 1)
    y, statistics = fused_pair.convolve_with_statistics(conv, prepared, packed, x.shape, norm)
    expected = F.conv3d(x.double(), conv.weight.double(), padding=(0, 1, 1))
    assert_near(y[:, :out_channels], expected, 2 * EPSILON[dtype])
    assert not y[:, out_channels:].any()
    assert_statistics(statistics, y, norm, 1e-5)
    conv.stride = (1, 2, 2)
    assert fused_pair.convolve_with_statistics(conv, prepared, packed, x.shape, norm)[1] is None, (
        "no kernel has strides"
    )


@pytest.mark.parametrize("variant", ["R(2+1)D", "2p222"])
def test_inference_with_split_pairs(variant, monkeypatch):
    if DEVICE == "cpu":  # has no cuDNN
        monkeypatch.setattr(fused_pair, "conv_bias_relu", fast_forward.conv_bias_relu)
    torch.manual_seed(0)
    model = VideoResNet(variant, 10, 64, num_classes=5, frames=3).to(DEVICE).eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm3d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
        nn.init.normal_(norm.running_mean, 0, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    split, run = [], fused_pair.infer_split
    monkeypatch.setattr(fused_pair, "infer_split", lambda *args: split.append(args[2] is None) or run(*args))
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    fast, plain = FastVideoResNet(model, dtype, fused_pair), copy.deepcopy(model).double()
    monkeypatch.setattr(fast_forward, "conv_bias_relu", fused_pair.conv_bias_relu)
    with torch.no_grad():
        for size, count in ((16, 2), (24, 2), (20, 0)):  # conv2_x has 8, 12 and 10 columns
            x = torch.randn(2, 3, 3, size, size, device=DEVICE)
            assert_near(fast(x), plain(x.double()), 1e-4 if DEVICE == "cpu" else 2e-2)
            assert split == [True, False][:count], "not the two pairs of conv2_x, the second with a residual"
            split.clear()


def test_batch_norm_takes_statistics_for_its_own():
    x = make_midplanes((2, 3, 4, 5), 16, 16, torch.float16, 1.0)
    norms = [make_norm(16)]
    norms.append(copy.deepcopy(norms[0]))
    shift = norms[0].running_mean.clone()
    centered = x.float().transpose(0, 1).flatten(1) - shift[:, None]
    halves = [half.sum(1) for half in (*centered.chunk(2, 1), *centered.square().chunk(2, 1))]
    given, _ = fused_pair.batch_norm(x, norms[0], statistics=torch.stack([*halves, shift]))
    found, _ = fused_pair.batch_norm(x, norms[1])
    torch.testing.assert_close(given, found, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(norms[0].running_var, norms[1].running_var)


@pytest.mark.skipif(DEVICE == "cuda", reason="test_gpu has it, in 16 bits")
def test_network_with_fused_pairs(monkeypatch):
    model = VideoResNet("R(2+1)D", 10, 16, num_classes=5, frames=3, stem_midplanes=45)
    plain, x = copy.deepcopy(model).double(), torch.randn(2, 3, 3, 16, 16)
    fused, run = [], fused_pair.norm_relu_conv
    monkeypatch.setattr(fused_pair, "norm_relu_conv", lambda *args: fused.append(args[2]) or run(*args))
    logits, exact = FastVideoResNet(model, torch.float32, fused_pair)(x), plain(x.double())
    assert fused == [model.conv1[3], model.conv4_x[0].conv2[3]]
    assert_near(logits.detach(), exact.detach(), 1e-4)
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    F.cross_entropy(exact, torch.tensor([0, 1])).backward()
    for one, other in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-4)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert_near(one.grad, other.grad, 2e-3)


@pytest.mark.parametrize(
    ("channels", "out_channels", "options", "expected"),
    [
        (144, 64, {}, True),
        (48, 64, {}, True),
        (144, 64, {"stride": (2, 1, 1)}, False),
        (232, 64, {}, False),  # no sum of two powers of two
        (144, 48, {}, False),
        (288, 128, {}, False),
    ],
)
def test_can_fuse_what_the_kernels_fit(channels, out_channels, options, expected):
    conv = nn.Conv3d(channels, out_channels, (3, 1, 1), padding=(1, 0, 0), bias=False, **options)
    assert fused_pair.can_fuse(conv, torch.empty(2, channels, 2, 3, 3)) is expected


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(144, (128, 16)), (48, (32, 16)), (80, (64, 16)), (64, (0, 0)), (72, (0, 0)), (24, (0, 0)), (112, (0, 0))],
)
def test_split_channels_into_powers_of_two(channels, expected):
    assert fused_pair.split_channels(channels) == expected
