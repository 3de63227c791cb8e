"""Code for the processes that tests start; it imports little, as each process imports it again."""

import itertools
import multiprocessing
import os
import re
import signal
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig

from r21d_core import R21DError
from r21d_core.data import parallel
from r21d_core.data.manifest import load_manifest
from r21d_core.engine import distributed as dist
from r21d_core.engine import launcher
from r21d_core.engine import train as engine
from r21d_core.engine.launcher import spawn_workers
from r21d_core.runs.run import find_run
from r21d_core.study.spec import Spec

# Batches of 8, 8 and 2 clips; of the last one, in micro-batches of one clip, rank one has none.
SPEC = Spec(
    variant="MC3", depth=10, width=2, frames=4, data="tiny", profile="demo", frame_height=18, frame_width=24, crop=16,
    epochs=3, clips_per_epoch=18, batch_size=8, grad_accum_steps=4, lr=0.05, warmup_epochs=1, lr_decay_epochs=1,
    eval_clips=2,
)  # fmt: skip


def work_forked(work):
    """Do the work of a worker of `fork_workers`, whose server may have begun without the launcher's variable."""
    os.environ[dist.RDZV_STORE_ENV] = "1"
    return launcher._worker(work)


def fork_workers(monkeypatch):
    """Let `spawn_workers` fork them from the server of this test process; other tests have workers that are spawned."""
    monkeypatch.setattr(launcher, "_worker", work_forked)
    children = psutil.Process.children
    monkeypatch.setattr(psutil.Process, "children", lambda process: children(process, recursive=True))
    forked = {"start_method": "forkserver"}
    monkeypatch.setattr(launcher, "LaunchConfig", lambda **options: LaunchConfig(**options | forked))


def train_slowly(manifest, spec, runs, output):
    """Train in a process of its own, and print each step to the connection `output`."""
    os.dup2(output.fileno(), 1)
    torch.set_num_threads(1)
    flush = engine._flush_metrics

    def slow_flush(*args):
        print("step", flush=True)
        time.sleep(0.05)
        return flush(*args)

    engine._flush_metrics = slow_flush
    try:
        engine.train(spec, load_manifest(manifest), runs, device="cpu", save_seconds=0)
    except KeyboardInterrupt:  # ends Python, but not a process of multiprocessing, as the signal
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)


def in_two(manifest, runs, deaths, device="cpu", spec=SPEC, checks=True):
    """Check the collectives, train, and send oneself the signal of the (rank, flush, signal) of each restart.

    SIGINT is sent to the launcher. With the device "auto" each process has its own GPU and computes deterministically.
    """
    with output_of(runs).open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    restart = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if device == "auto":
        torch.use_deterministic_algorithms(True)
        engine.pick_device = torch.device  # without cuDNN's benchmark, which may select other kernels after a restart
    elif restart == 0 and checks:
        try:
            check_collectives()
        except BaseException as error:  # for anything else the workers are restarted, and do not check again
            raise R21DError(f"check_collectives: {error!r}") from error
    who, when, number = deaths[restart] if restart < len(deaths) else (None, None, 0)
    flushes = itertools.count()
    flush = engine._flush_metrics

    def dying(*args):
        if dist.rank() == who and next(flushes) == when:
            is_ctrl_c = number == signal.SIGINT
            os.kill(multiprocessing.parent_process().pid if is_ctrl_c else os.getpid(), number)
            time.sleep(2 * is_ctrl_c)  # the launcher passes it on
        return flush(*args)

    engine._flush_metrics = dying
    engine.train(spec, load_manifest(manifest), runs, device=device, save_seconds=0)


def output_of(runs):
    """The file of what the processes of `in_two` print; a server of processes has its own output."""
    return Path(f"{runs}.txt")


def train_and_kill(manifest, runs, capfd, deaths, device="cpu", spec=SPEC):
    """Return the run of two workers that die at `deaths` (see `in_two`)."""
    spawn_workers(partial(in_two, manifest, runs, deaths, device, spec), 2, device)
    restarts = re.findall(r"a worker died; .* \(restart (\d) of 3\)", output_of(runs).read_text())
    assert restarts == ["1", "2"][: len(deaths)]
    stopped = re.findall("a worker process was stopped for .* seconds and is killed\n", capfd.readouterr().err)
    assert len(stopped) == sum(number == signal.SIGSTOP for *_, number in deaths)
    return find_run(runs, spec)


def check_collectives():
    # What fails on one rank alone fails then, and not when the other has waited for hours.
    before, dist.COLLECTIVE_TIMEOUT = dist.COLLECTIVE_TIMEOUT, timedelta(minutes=5)
    with dist.process_group("auto" if not torch.cuda.is_available() else "cpu") as device:
        assert device == "cpu" and dist.world_size() == 2
        assert dist.on_rank_zero(lambda: f"from {dist.rank()}") == "from 0"
        for who in (0, 1):
            with refused(f"trouble of {who}"), dist.raise_on_all_ranks():
                if dist.rank() == who:
                    raise R21DError(f"trouble of {who}")
        with refused("trouble of the first"):
            dist.on_rank_zero(lambda: fail("trouble of the first"))
        with refused("on the way to 2"):
            for item in dist.lockstep(items()):
                assert item < 2
        check_merged_running_stats()
        check_gradients_of_the_fast_form()
    if not torch.cuda.is_available():  # rank one is the host with GPUs
        says = r"2 processes on \S+, which has no usable GPUs: .* leave that host out, or use --device cpu"
        with refused(says), dist.process_group(["auto", "cuda"][int(os.environ["RANK"])]):
            pass
    dist.COLLECTIVE_TIMEOUT = timedelta(seconds=5)
    limit, parallel.WORKER_TIMEOUT, dist.BEAT_SECONDS = parallel.WORKER_TIMEOUT, 4, 2
    with dist.process_group("cpu"), refused("trouble after more than that"):
        dist.on_rank_zero(lambda: time.sleep(8) or fail("trouble after more than that"))
    dist.BEAT_SECONDS = 99
    with dist.process_group("cpu"):
        if dist.rank():
            with pytest.raises(SystemExit, match="rank 0 did not respond for 4 seconds"):
                dist._wait_for_rank_zero("which never comes")
        dist.all_reduce_max(0)
    dist.COLLECTIVE_TIMEOUT, parallel.WORKER_TIMEOUT, dist.BEAT_SECONDS = before, limit, 5


def refused(text):
    return pytest.raises(R21DError, match=f"^{text}$")


def fail(text):
    raise R21DError(text)


def items():
    yield 1
    yield 2 if dist.rank() else fail("on the way to 2")


def check_merged_running_stats():
    """Four micro-batches in order, against two by each process; then one that rank zero alone has.

    Of several kinds of batch norm, with momenta of their own, frozen, and without running statistics.
    """
    values = [torch.randn(3, 5, 2, 2, 2, generator=torch.Generator().manual_seed(number)) for number in range(4)]
    one, ours = (
        torch.nn.Sequential(
            torch.nn.BatchNorm3d(5), torch.nn.BatchNorm3d(5, momentum=0.3), torch.nn.BatchNorm3d(5).eval(),
            torch.nn.BatchNorm3d(5, track_running_stats=False), torch.nn.Flatten(2), torch.nn.BatchNorm1d(5),
            torch.nn.Unflatten(2, (2, 4)), torch.nn.BatchNorm2d(5, momentum=0.7),
        )
        for _ in range(2)
    )  # fmt: skip
    for clips, parts in ((12, values), (1, values[:1])):
        share = dist.shard_batch(clips, 4, dist.rank(), dist.world_size())
        for part in parts:
            one(part)
        with dist.count_as_one_process(ours, share):
            for number in range(len(share.micro_batches)):
                ours(parts[0 if share.is_empty else share.before + number])
        torch.testing.assert_close(ours.state_dict(), one.state_dict())
    ours[1].momentum = None
    with refused("1: batch norm with momentum=None; set a number, or train in one process"):
        dist.wrap_ddp(ours, torch.device("cpu"))


def check_gradients_of_the_fast_form():
    """FastVideoResNet under DDP, against the model that sees both processes' clips in turn."""
    from r21d_core.models.fast_forward import FastVideoResNet
    from r21d_core.models.network import VideoResNet
    from tests.r21d_core.models.test_fast_forward import PLAIN

    torch.manual_seed(dist.rank())  # DDP broadcasts rank zero's weights
    network = VideoResNet("R(2+1)D", 10, 4, num_classes=3).double()
    network.bn1.running_mean.fill_(dist.rank())
    model = dist.wrap_ddp(FastVideoResNet(network, torch.float64, PLAIN), torch.device("cpu"))
    assert not network.bn1.running_mean.any(), "rank zero's statistics"
    clips = torch.randn(2, 2, 3, 4, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    model(clips[dist.rank()]).square().sum().backward()
    torch.manual_seed(0)
    plain = VideoResNet("R(2+1)D", 10, 4, num_classes=3).double()
    for part in clips:
        plain(part).square().sum().backward()
    torch.testing.assert_close([p.grad * 2 for p in network.parameters()], [p.grad for p in plain.parameters()])
