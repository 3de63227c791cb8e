"""Finished runs with made-up records."""

import numpy as np

from r21d_core.runs.run import find_run, find_runs, write_history, write_scores, write_summary
from r21d_core.runs.scores import Scores

NASTY = '<script>alert("1")</script>'


def finish(run, scores=None, history=None, **summary):
    """Write the records that make `run` finished; of a finished run, replace those that are given."""
    run.write("spec.json", run.spec.to_json())
    if scores is not None:
        write_scores(run, scores)
    if history is not None:
        write_history(run, history)
    write_summary(run, (run.summary if run.is_complete else {}) | summary)
    return run


def unfinish(*runs):
    for run in runs:
        (run.folder / "summary.json").unlink()


def random_scores(seed, videos, classes, protocol, labels=None, groups=None, clips=3, share=1, gain=8):
    """Scores whose logits of the label are raised by `gain` in a `share` of the videos."""
    random, rows = np.random.default_rng(seed), np.arange(len(videos))
    labels = rows % len(classes) if labels is None else labels
    logits = random.normal(size=(len(videos), clips, len(classes))).astype(np.float32)
    logits[rows, :, labels] += gain * (random.random(len(videos)) < share)[:, None]
    groups = videos if groups is None else groups
    return Scores(logits, labels, np.array(videos), np.array(groups), tuple(classes), protocol)


def protocol_of(spec, count=24, **changes):
    """The protocol of scores on `count` of one video more, with `changes`."""
    return {
        "clips": 3, "crop": "center crop 112×112 of 128×171", "averaging": "mean of softmax", "frames": spec.frames,
        "frame_stride": spec.frame_stride, "task": spec.task, "modality": spec.modality, "data": spec.data,
        "split": "test", "frame_rate": "25 fps", "videos_listed": count + 1, "videos_evaluated": count, "families": {},
        "profile": spec.profile,
    } | changes  # fmt: skip


def make_runs(specs, folder, families=None, share=0.6, classes=6):
    """Finished runs of `specs` on 24 videos of data with a hostile name."""
    for number, spec in enumerate(specs):
        protocol = protocol_of(spec, data=NASTY, families=families or {})
        scores = random_scores(number, [f"v{n}" for n in range(24)], "abcdef"[:classes], protocol, share=share)
        history = [{"epoch": e, "train_error": 0.9 / e, "test_error": 1 / e} for e in (1, 2, 3)]
        cost = {"parameters": 33_000_000 + number, "macs": 4e10 + 1e9 * number}
        speed = {"train_clips_per_second": 100.0, "inference_clips_per_second": 300.0 + 10 * number}
        finish(find_run(folder, spec), scores, history, device="TestGPU", **cost, **speed)
    return find_runs(specs, folder)
