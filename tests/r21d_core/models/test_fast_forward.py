"""The fast form computes what the plain network does: its kernels, interpreted if need be, and its logic."""

import copy
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from r21d_core import R21DError
from r21d_core.engine import numerics
from r21d_core.engine.build import build_model, build_optimizer, optimize
from r21d_core.engine.numerics import check_numerics
from r21d_core.models import conv_layout
from r21d_core.models.conv_layout import convolve, pack_weight, unpack_weight
from r21d_core.models.fast_forward import FastVideoResNet, conv_bias_relu, conv_bn_pairs
from r21d_core.models.network import VideoResNet
from r21d_core.study.spec import Spec
from r21d_core.study.variants import NETWORKS
from tests.networks import few_programs, randomize_batch_norms

LAST = torch.channels_last_3d
ZERO = 1e-6  # less than this is rounding, as of a bias that a linear layer passes on to a batch norm
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def batch_norm(x, norm, relu=True, residual=None, statistics=None):
    """What `fused_bn.batch_norm` does, by PyTorch, in any precision."""
    real = norm.num_features
    assert not x[:, real:].any()
    norm.num_batches_tracked += 1
    y = F.batch_norm(x[:, :real], norm.running_mean, norm.running_var, norm.weight, norm.bias, True, 0.1, norm.eps)
    y = F.pad(y, (0, 0) * 3 + (0, x.shape[1] - real)) + (0 if residual is None else residual)
    y = y.relu() if relu else y
    return y, y


PLAIN = SimpleNamespace(
    batch_norm=batch_norm,
    conv_bias_relu=conv_bias_relu,
    convolve_with_statistics=lambda *args, norm: (convolve(*args), None),
    can_fuse=lambda conv, x: False,
    can_split=lambda pair, x: False,
)


@pytest.fixture(scope="module")
def kernels():
    """`fused_bn` on the GPU, or by Triton's interpreter, which conftest asks for."""
    return pytest.importorskip("r21d_core.models.fused_bn", exc_type=ImportError)


@pytest.fixture(params=["as it is", "gathered"])
def stem(request, monkeypatch):
    """As on a CPU, and as on a GPU."""
    monkeypatch.setattr(conv_layout, "WIDE_TILE_DEVICES", (DEVICE, "cpu") if request.param == "gathered" else ())


def network(variant, depth=10, width=4, frames=5, num_classes=5, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = VideoResNet(variant, depth, width, num_classes=num_classes, frames=frames, **options)
        return randomize_batch_norms(built).double().to(memory_format=LAST).train()


def clips(count=3, frames=5, height=16, width=19, channels=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, frames, height, width, generator=generator, dtype=torch.float64)


def close(actual, expected, within=1e-10):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    assert (actual - expected).abs().max() <= within * max(expected.abs().max(), ZERO)


def step(forward, x):
    logits = forward(x)
    F.cross_entropy(logits, torch.arange(len(x), device=x.device) % logits.shape[1]).backward()
    return logits.detach()


def filled(generator, n, real, padded, t, h, w, dtype, shift=0.0):
    """Channels-last clips, zeros in the padded channels."""
    x = torch.zeros(n, padded, t, h, w).to(memory_format=LAST)
    x[:, :real] = torch.randn(n, real, t, h, w, generator=generator) + shift
    return x.to(DEVICE, dtype)


SIZES = st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    size=SIZES, real=st.sampled_from([1, 5, 8, 45, 48, 64]), relu=st.booleans(), add=st.booleans(),
    used=st.sampled_from([[0], [1], [0, 1]]), ratio=st.sampled_from([0.0, 0.0, 30.0, -3000.0]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)  # fmt: skip
@example(size=(2, 1, 8, 8), real=130, relu=True, add=True, used=[0, 1], ratio=30.0, dtype=torch.float32)
@example(size=(3, 2, 4, 7), real=130, relu=False, add=False, used=[1], ratio=0.0, dtype=torch.float16)
def test_batch_norm_is_that_of_float64(kernels, size, real, relu, add, used, ratio, dtype):
    if ratio and dtype == torch.float16:
        ratio = 3.0  # 16 bits have no more to tell the numbers apart
    relu = relu or add
    n, t, h, w = size
    generator = torch.Generator().manual_seed(n + 10 * t + 100 * h + 1000 * w)
    padded = -(-real // 8) * 8
    norm = nn.BatchNorm3d(real, eps=1e-3)
    norm.weight.data.uniform_(0.5, 1.5, generator=generator)
    norm.bias.data.normal_(generator=generator)
    norm.to(DEVICE)
    exact = copy.deepcopy(norm).double()
    x = filled(generator, n, real, padded, t, h, w, dtype, ratio).requires_grad_()
    residual = filled(generator, n, real, padded, t, h, w, dtype).requires_grad_() if add else None
    grads = [filled(generator, n, real, padded, t, h, w, dtype) for _ in used]
    out, again = kernels.batch_norm(x, norm, relu, residual)
    torch.autograd.backward([(out, again)[number] for number in used], grads)

    x64 = x.detach()[:, :real].double().requires_grad_()
    r64 = residual.detach()[:, :real].double().requires_grad_() if add else None
    y = exact(x64) + (r64 if add else 0)
    if relu:  # the kernel's mask: where it is not sure of a sign within its precision, either is right
        y = y * (out.detach()[:, :real] > 0)
    y.backward(sum(grads)[:, :real].double())

    rows, most = n * t * h * w, {torch.float32: 2e-5 + 1e-6 * abs(ratio), torch.float16: 3e-3}[dtype]
    scale = 1 + 1 / (exact.running_var.min() ** 0.5).item() if rows > 4 else 40

    def near(actual, expected, within=most):
        torch.testing.assert_close(actual.double(), expected, rtol=within, atol=within * scale)

    near(out[:, :real], y.detach())
    near(x.grad[:, :real], x64.grad, within=10 * most)
    near(norm.weight.grad, exact.weight.grad, within=most * rows**0.5)
    near(norm.bias.grad, exact.bias.grad, within=most * rows**0.5)
    near(norm.running_mean, exact.running_mean, within=1e-5)
    near(norm.running_var, exact.running_var, within=1e-4)
    if add:
        near(residual.grad[:, :real], r64.grad)
    assert norm.num_batches_tracked == 1
    for padding in (out, x.grad, *((residual.grad,) if add else ())):
        assert not padding[:, real:].any()


def test_batch_norm_over_more_than_a_tile_of_each_program(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "multiprocessors", lambda device: 5)
    monkeypatch.setattr(kernels, "PARTS", 64)
    generator = torch.Generator().manual_seed(0)
    x = filled(generator, 2, 144, 144, 4, 9, 13, torch.float32, 2.0).requires_grad_()
    norm = nn.BatchNorm3d(144, device=DEVICE)
    exact = copy.deepcopy(norm).double()
    tiles = kernels.tile_grid(x)
    assert tiles.grid[1] == 2 and 3 < tiles.elements / tiles.span / kernels.ROWS < 4, (
        "two tiles for each, the last short"
    )
    dy = filled(generator, 2, 144, 144, 4, 9, 13, torch.float32)
    kernels.batch_norm(x, norm)[0].backward(dy)
    x64 = x.detach().double().requires_grad_()
    exact(x64).relu().backward(dy.double())
    torch.testing.assert_close(x.grad.double(), x64.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.weight.grad.double(), exact.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.running_var.double(), exact.running_var, rtol=1e-5, atol=1e-6)


def test_batch_norm_of_nan_or_one_value_a_channel(kernels):
    x = torch.randn(2, 8, 1, 2, 2, device=DEVICE)
    x[0, 3, 0, 0, 0] = torch.nan  # which a ReLU would hide as 0, and the loss would be finite
    out, _ = kernels.batch_norm(x, nn.BatchNorm3d(8, device=DEVICE))
    assert out.isnan().any((0, 2, 3, 4)).tolist() == [channel == 3 for channel in range(8)]
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        kernels.batch_norm(torch.zeros(1, 8, 1, 1, 1, device=DEVICE), nn.BatchNorm3d(8, device=DEVICE))


@pytest.mark.parametrize("variant", NETWORKS)
@pytest.mark.parametrize(("height", "across", "width"), [(16, 16, 4), (17, 19, 5)])
def test_fast_form_computes_what_the_model_does(variant, height, across, width, stem):
    plain, x = network(variant, width=width), clips(height=height, width=across)
    ours = copy.deepcopy(plain)
    form = FastVideoResNet(ours, torch.float64, PLAIN)
    close(step(form, x), step(plain, x))
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert one.grad.stride() == one.stride(), name
        close(one.grad, other.grad)
    assert list(ours.state_dict()) == list(plain.state_dict())
    for one, other in zip(ours.buffers(), plain.buffers(), strict=True):
        close(one, other)
    form.eval(), plain.eval()
    with torch.no_grad():
        close(form(x), plain(x))


@pytest.mark.parametrize("options", [{"midplanes_per_block": True}, {"stem_midplanes": 7}, {"in_channels": 2}])
def test_fast_form_has_all_options(options, stem):
    plain, x = network("R(2+1)D", **options), clips(channels=options.get("in_channels", 3))
    form = FastVideoResNet(copy.deepcopy(plain), torch.float64, PLAIN)
    close(step(form, x), step(plain, x))


@pytest.mark.parametrize("stem", ["gathered"], indirect=True)  # where there are kernels
def test_fast_form_with_triton_kernels(kernels, stem, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # the kernels are held to more digits than it has
    if DEVICE == "cpu":
        few_programs(monkeypatch, kernels)
    conv = kernels.conv_bias_relu if DEVICE == "cuda" else conv_bias_relu  # the first is cuDNN's
    kernels = SimpleNamespace(**vars(PLAIN) | {"batch_norm": kernels.batch_norm, "conv_bias_relu": conv})
    plain, x = network("R(2+1)D", width=5).to(DEVICE), clips().to(DEVICE)
    ours = copy.deepcopy(plain).float()
    form = FastVideoResNet(ours, torch.float32, kernels)
    close(step(form, x.float()), step(plain, x).float(), within=1e-4)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        close(one.grad, other.grad.float(), within=2e-3)
    for one, other in zip(ours.buffers(), plain.buffers(), strict=True):
        close(one, other.to(one.dtype), within=1e-4)
    form.eval(), plain.eval()
    with torch.inference_mode():
        close(form(x.float()), plain(x).float(), within=1e-4)


@pytest.mark.parametrize("stem", ["gathered"], indirect=True)
def test_a_stem_that_spans_the_clip_is_a_2d_convolution(stem):
    conv, x = network("R2D").conv1, clips().requires_grad_()
    prepared, packed = conv_layout.prepare_input(conv, x, x.dtype), pack_weight(conv, conv.weight, x.dtype)
    assert prepared.shape == (3, 3 * 5, 16, 19) and packed.shape == (8, 3 * 5, 7, 7)
    dy = F.pad(clips(channels=4, frames=1, height=8, width=10), [0] * 7 + [4])
    dx, dw = conv_layout.conv_gradients(conv, dy, prepared, packed, x.shape, (True, True))
    of_clips, of_weight = torch.autograd.grad(conv(x), (x, conv.weight), dy[:, :4])
    close(dx, of_clips)
    close(unpack_weight(conv, dw, conv.weight), of_weight)
    assert all(
        conv_layout.is_space_to_depth(conv_bn_pairs(network(name))[0][0]) for name in ("f-R2D", "R(2+1)D", "R3D")
    )


@pytest.mark.parametrize("variant", ["R3D", "R(2+1)D", "R2D"])
def test_packed_weights_are_zero_where_padded_and_come_back(variant, stem):
    for conv, _ in conv_bn_pairs(network(variant, width=5)):
        packed, times = pack_weight(conv, conv.weight, torch.float64), 4 if conv_layout.is_space_to_depth(conv) else 1
        of_clips = conv_layout.is_stem(conv) and not conv_layout.is_space_to_depth(conv)
        channels = {3, 3 * conv.kernel_size[0]}
        assert packed.shape[0] % 8 == 0 and (packed.shape[1] in channels if of_clips else packed.shape[1] % 8 == 0)
        assert torch.count_nonzero(packed) == torch.count_nonzero(conv.weight) * times
        assert torch.equal(unpack_weight(conv, packed, conv.weight), conv.weight * times)


def test_folded_weights_follow_the_model():
    """After a step of a fused optimizer too, which leaves the versions of parameters as they were."""
    model, x = network("R(2+1)D"), clips()
    form = FastVideoResNet(model, torch.float64, PLAIN)
    step(form, x)

    def check():
        form.eval()
        with torch.no_grad():
            close(form(x), model(x))

    check()
    form.train()
    torch.optim.SGD(model.parameters(), 0.1, fused=True).step()
    check()
    model.load_state_dict(network("R(2+1)D").state_dict())
    check()
    with torch.no_grad():
        model.conv1[0].weight.mul_(2)
    check()
    step(form.train(), x)
    check()
    folded = form._folded[model.conv1[0]][0]
    check()
    assert form._folded[model.conv1[0]][0] is folded
    assert model.training is form.training is False
    form.train()
    assert not form._folded and model.training


def test_state_dict_is_that_of_the_model():
    model = network("R3D")
    form = FastVideoResNet(model, torch.float64, PLAIN)
    assert [name.removeprefix("model.") for name in form.state_dict()] == list(model.state_dict())
    assert all(ours is theirs for ours, theirs in zip(form.parameters(), model.parameters(), strict=True))


def test_evaluation_with_gradients_is_the_plain_one():
    ours, x = network("R3D").eval(), clips().requires_grad_()
    FastVideoResNet(ours, torch.float64, PLAIN)(x).sum().backward()
    assert x.grad.any() and ours.conv1.weight.grad.any()


def test_r2d_refuses_clips_of_another_length():
    with pytest.raises(R21DError, match="built for clips of 5 frames and got 4"):
        FastVideoResNet(network("R2D"), torch.float64, PLAIN)(clips(frames=4))


@pytest.mark.parametrize(
    ("broken", "wrong"),
    [
        ({}, None),
        ({"batch_norm": lambda x, norm, relu=True, *_, **__: batch_norm(x, norm, relu)}, "logits"),
        ({"batch_norm": lambda x, norm, relu=True, y=None, **_: batch_norm(x, norm, relu, y if y is None else y.data)},
         "gradients"),
        ({"batch_norm": lambda x, norm, *rest, **options: (
            batch_norm(x, norm, *rest, **options), norm.running_var.data.mul_(2))[0]}, "running statistics"),
        ({"conv_bias_relu": lambda x, weight, _, *rest: conv_bias_relu(x, weight, None, *rest)}, "evaluation"),
    ],
)  # fmt: skip
def test_check_numerics_names_the_wrong_result(broken, wrong, monkeypatch):
    kernels = SimpleNamespace(**vars(PLAIN) | broken)
    monkeypatch.setattr(numerics, "WIDTH", 4)  # as many clips as for a wide network
    monkeypatch.setattr(numerics, "SIZE", 32)
    checked = network("R3D").float()
    before = copy.deepcopy(checked.state_dict())
    told = check_numerics(checked, torch.float16, kernels, 5)
    assert told is None if wrong is None else told.startswith(f"the error of its {wrong} is ")
    for name, value in checked.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(("classes", "outputs"), [(4, 512), (600, 600)])
def test_check_numerics_compares_many_outputs(classes, outputs, monkeypatch):
    """Over four, one form had three times the error of autocast by chance."""
    heads = []
    monkeypatch.setattr(numerics, "_results", lambda model, *_: heads.append(model.fc) or {})
    checked = network("R3D", num_classes=classes)
    assert [check_numerics(checked, torch.float16, PLAIN, 5) for _ in range(2)] == [None, None]
    assert [head.out_features for head in heads] == 6 * [outputs] and checked.fc.out_features == classes
    assert all(torch.equal(head.weight, heads[0].weight) for head in heads)


@pytest.mark.parametrize(("fast", "passes"), [(102.05, True), (102.15, False), (float("nan"), False)])
def test_fast_form_may_have_twice_the_error_of_autocast(monkeypatch, fast, passes):
    """Autocast has one of 0.01, so 0.02 is allowed, and 0.001 for rounding."""
    values = iter((100.0, 101.0, fast))
    monkeypatch.setattr(numerics, "_results", lambda *_: {"logits": [torch.tensor([next(values)])]})
    assert (check_numerics(network("R3D"), torch.float16, PLAIN, 5) is None) is passes


@pytest.mark.parametrize("variant", NETWORKS)
def test_cpu_trains_the_model_and_folds_for_evaluation(variant):
    """With weights that follow a training step."""
    spec = Spec(variant=variant, depth=10, width=4, frames=4, data="tiny", profile="demo", precision="bf16")
    device, x = torch.device("cpu"), clips(frames=4).float()
    plain = build_model(spec, 5, device)
    fast = optimize(copy.deepcopy(plain), spec, device)
    for _ in range(2):
        assert torch.equal(step(fast.train(), x), step(plain.train(), x))
        for module in (fast, plain):
            build_optimizer(module, spec).step()
        fast.eval(), plain.eval()
        with torch.inference_mode():
            close(fast(x), plain(x), within=1e-5)
            assert not torch.equal(fast(x), plain(x)), "nothing was folded"


def test_failed_check_is_printed_in_a_line(monkeypatch, capsys):
    """As on a GPU without Triton."""
    monkeypatch.setitem(sys.modules, "r21d_core.models.fused_pair", None)
    spec = Spec(depth=10, width=4, frames=4, data="tiny", profile="demo", precision="bf16")
    model = network("R3D")
    assert optimize(model, spec, torch.device("cuda")) is model
    printed = capsys.readouterr().out
    assert printed.startswith("R(2+1)D: runs without the fast form, which fails its check here: it raised ")
    assert printed.count("\n") == 1
