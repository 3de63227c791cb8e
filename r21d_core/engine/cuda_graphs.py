"""Replay training passes from CUDA graphs, as the host launches kernels more slowly than a GPU runs them."""

from __future__ import annotations

import gc

import torch
from torch import Tensor, nn

from r21d_core.engine.numerics import relative_error, training_pass
from r21d_core.models.cost import CHANNELS
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.study.spec import Spec

MAX_ERROR = 0.02  # relative error of a replay, whose kernels may sum in another order


class CudaGraphModel(nn.Module):
    """Replay training passes over clips of the shape of `sample`; run all other passes of `model` as usual.

    The next replay overwrites the gradients of the last one, so use or copy them first.
    """

    def __init__(self, model: FastVideoResNet, sample: Tensor):
        super().__init__()
        self.model, self.shape = model, sample.shape
        # The graphed callable is a module that PyTorch gives a new `forward`; only that is kept, not its parameters.
        self._replay = torch.cuda.make_graphed_callables(_Forward(model), (sample,)).forward

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of clips (N, in_channels, T, H, W)."""
        captured = self.model.training and torch.is_grad_enabled() and clips.shape == self.shape
        return self._replay(clips) if captured else self.model(clips)


class _Forward(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, clips: Tensor) -> Tensor:
        return self.model(clips)


def capture_cuda_graph(model: nn.Module, spec: Spec, n_clips: int) -> nn.Module:
    """Return a `CudaGraphModel` of what `optimize` returned, for training passes over `n_clips` clips.

    Returns `model` if it is not a GPU's fast form, or, with a line printed, if the capture fails or replays something
    else. The state of `model` does not change.
    """
    if not isinstance(model, FastVideoResNet) or not model.kernels:
        return model
    gc.collect()  # frees the graphs of earlier models, which are in reference cycles
    weight, training = next(model.parameters()), model.training
    shape = (n_clips, CHANNELS[spec.modality], spec.frames, spec.crop, spec.crop)
    generator = torch.Generator(weight.device).manual_seed(0)
    sample, clips = (torch.randn(shape, generator=generator, device=weight.device) for _ in range(2))
    sample = sample.contiguous(memory_format=torch.channels_last_3d)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model.train()
    # The capture leaves autograd nodes of another stream; waiting for that stream costs nothing here.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    graphed, failure = model, ""
    try:
        graphed = CudaGraphModel(model, sample)
        # From the same buffers: kernels round depending on the running statistics, and the gradients of an untrained
        # network amplify that.
        _load_buffers(model, buffers)
        replayed = training_pass(graphed, clips)
        _load_buffers(model, buffers)
        expected = training_pass(model, clips)
        for name in expected:
            error = relative_error(replayed[name], expected[name])
            if not (failure or error <= MAX_ERROR):
                failure = f"the error of its {name} is {error:.2g}"
    except RuntimeError as error:  # anything that forbids a capture, such as too little memory
        failure = f"it raised {type(error).__name__} ({(str(error) or '?').strip().splitlines()[0][:200]})"
    _load_buffers(model, buffers)
    model.train(training)
    model.zero_grad()  # a pass that failed may leave gradients
    if failure:
        print(f"{spec.variant}: runs without CUDA graphs, which fail their check here: {failure}")
        return model
    return graphed.train(training)


def _load_buffers(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
