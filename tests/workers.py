"""What the processes do that test_distributed starts; they import no more than they need, as each has to anew."""

import os
import signal
import time
from contextlib import contextmanager
from datetime import timedelta

import torch

from r21d_core import R21DError
from r21d_core.data.manifest import load_manifest
from r21d_core.engine import distributed
from r21d_core.engine import train as engine
from r21d_core.engine.distributed import (
    lockstep,
    merge_bn_running_stats,
    on_rank_zero,
    process_group,
    raise_on_all_ranks,
    rank,
    shard_batch,
    world_size,
    wrap_ddp,
)
from r21d_core.study.spec import Spec

# Steps of 8, 8 and 2 clips: of the last, in parts of one clip, the second of two processes has none.
SPEC = Spec(
    variant="MC3", depth=10, width=2, frames=4, data="tiny", profile="demo", frame_height=18, frame_width=24, crop=16,
    epochs=3, clips_per_epoch=18, batch_size=8, grad_accum_steps=4, lr=0.05, warmup_epochs=1, lr_decay_epochs=1, eval_clips=2,
)  # fmt: skip


def in_two(manifest, runs, deaths, device="cpu", spec=SPEC):
    """What each of two processes does: settle some things or die where `deaths` says so, and train.

    With the device "auto" each has a GPU of its own, and computes the same to the last bit each time.
    """
    if device == "auto":
        torch.use_deterministic_algorithms(True)
        engine.pick_device = torch.device  # or cuDNN would look for fast kernels, and find others after each start
    elif not deaths:
        settle()
    restart = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    who, when = deaths[restart] if restart < len(deaths) else (None, None)
    looks = iter(range(100))
    look = engine._flush_metrics

    def dying(*args):
        if rank() == who and next(looks) == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return look(*args)

    engine._flush_metrics = dying
    engine.train(spec, load_manifest(manifest), runs, device=device, save_seconds=0)


def settle():
    with process_group("auto" if not torch.cuda.is_available() else "cpu") as device:
        assert device == "cpu" and world_size() == 2
        assert on_rank_zero(lambda: f"from {rank()}") == "from 0"
        for who in (0, 1):
            with refused(f"trouble of {who}"), raise_on_all_ranks():
                if rank() == who:
                    raise R21DError(f"trouble of {who}")
        with refused("trouble of the first"):
            on_rank_zero(lambda: fail("trouble of the first"))
        with refused("on the way to 2"):
            for item in lockstep(items()):
                assert item < 2
        statistics_are_those_of_one()
        gradients_of_the_fast_form_are_summed()
    before, distributed.COLLECTIVE_TIMEOUT = distributed.COLLECTIVE_TIMEOUT, timedelta(seconds=5)
    with process_group("cpu"), refused("trouble after more than that"):
        on_rank_zero(lambda: time.sleep(8) or fail("trouble after more than that"))
    distributed.COLLECTIVE_TIMEOUT = before


@contextmanager
def refused(text):
    try:
        yield
    except R21DError as error:
        assert str(error) == text
    else:
        raise AssertionError(f"not refused: {text}")


def fail(text):
    raise R21DError(text)


def items():
    yield 1
    yield 2 if rank() else fail("on the way to 2")


def statistics_are_those_of_one():
    """Four parts in order through batch norm here, and two by each of two there; then a part for the first alone."""
    values = [torch.randn(3, 5, 2, 2, 2, generator=torch.Generator().manual_seed(number)) for number in range(4)]
    one, ours = torch.nn.BatchNorm3d(5), torch.nn.BatchNorm3d(5)
    for clips, parts in ((12, values), (1, values[:1])):
        share = shard_batch(clips, 4, rank(), world_size())
        for part in parts:
            one(part)
        with merge_bn_running_stats(ours, share):
            for number in range(len(share.micro_batches)):
                ours(parts[0 if share.is_empty else share.before + number])
        for name, value in one.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value)


def gradients_of_the_fast_form_are_summed():
    """Its own autograd functions under DDP, beside the plain network that sees both processes' clips in turn."""
    from r21d_core.models.fast_forward import FastVideoResNet
    from r21d_core.models.network import VideoResNet
    from tests.r21d_core.models.test_fast_forward import PLAIN

    torch.manual_seed(rank())  # the first one's weights are to be everyone's
    network = VideoResNet("R(2+1)D", 10, 4, num_classes=3).double()
    model = wrap_ddp(FastVideoResNet(network, torch.float64, PLAIN), torch.device("cpu"))
    clips = torch.randn(2, 2, 3, 4, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    model(clips[rank()]).square().sum().backward()
    torch.manual_seed(0)
    plain = VideoResNet("R(2+1)D", 10, 4, num_classes=3).double()
    for part in clips:
        plain(part).square().sum().backward()
    for (name, mine), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad * 2, other.grad, msg=lambda text, name=name: name + text)
