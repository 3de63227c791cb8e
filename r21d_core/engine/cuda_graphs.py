"""Training passes replayed from CUDA graphs: the host starts kernels one by one more slowly than a GPU runs these."""

from __future__ import annotations

import gc

import torch
import torch.nn.functional as F
from torch import Tensor

from r21d_core.models.cost import CHANNELS
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.network import VideoResNet
from r21d_core.study.spec import Spec

MOST = 0.02  # relative error of what is replayed: the same kernels may sum in another order


def capture_cuda_graph(network: VideoResNet, spec: Spec, clips: int) -> None:
    """Let `network`, in its fast form, replay its passes over so many training clips; weights and statistics stay.

    Other numbers of clips, and evaluation, go the usual way, as does all where a replay fails or gives something else,
    which is then said in a line. Gradients have to be used, or copied, before the next replay overwrites them.
    """
    plain = vars(network).get("forward")
    if not isinstance(plain, FastVideoResNet) or not plain.kernels:
        return
    gc.collect()  # a network that is gone keeps its graphs' memory until then, being in a cycle with them
    device, trained = network.fc.weight.device, network.training
    shape = (clips, CHANNELS[spec.modality], spec.frames, spec.crop, spec.crop)
    generator = torch.Generator(device).manual_seed(0)
    sample, other = (torch.randn(shape, generator=generator, device=device) for _ in range(2))
    sample = sample.contiguous(memory_format=torch.channels_last_3d)
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    network.train()
    # Capturing leaves nodes behind that belong to another stream; waiting for it costs nothing here.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        torch.cuda.make_graphed_callables(network, (sample,))
        replayed = network.forward
        trouble = _compare(_passes(network, replayed, other), _passes(network, plain, other))
    except RuntimeError as error:  # whatever does not allow it, too little memory for one
        trouble = f"it raised {type(error).__name__} ({(str(error) or '?').strip().splitlines()[0][:200]})"
    for name, value in network.named_buffers():
        value.copy_(statistics[name])
    network.train(trained)
    network.zero_grad()  # what a pass that failed half-way has left
    network.forward = plain
    if trouble:
        print(f"{spec.variant}: starts its kernels one by one, as replaying them fails its check here: {trouble}")
        return

    def forward(x: Tensor) -> Tensor:
        same = network.training and torch.is_grad_enabled() and x.shape == shape
        return (replayed if same else plain)(x)

    network.forward = forward


def _passes(network: VideoResNet, forward, clips: Tensor) -> list[Tensor]:
    """Logits, and copies of all gradients, of one pass each way."""
    target = torch.arange(len(clips), device=clips.device) % network.fc.out_features
    logits = forward(clips)
    F.cross_entropy(logits, target).backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    return [logits.detach(), *gradients]


def _compare(replayed: list[Tensor], usual: list[Tensor]) -> str:
    """What of the logits and gradients is further apart than rounding explains; "" if nothing is."""
    errors = [((one - other).norm() / other.norm().clamp_min(1e-30)).item()
              for one, other in zip(replayed, usual, strict=True)]  # fmt: skip
    # Single gradients hang on a ReLU or two; three quarters of them do not.
    typical = torch.tensor(errors[1:]).quantile(0.75).item()
    if not errors[0] <= MOST:
        return f"its logits are off by {errors[0]:.2g}"
    return "" if typical <= MOST else f"its gradients are off by {typical:.2g}"
