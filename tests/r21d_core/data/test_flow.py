"""Flow is Farneback's with the authors' parameters, kept with a small loss, and seen by a network as it should be."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data import flow as flow_module
from r21d_core.data.decode import read_all
from r21d_core.data.flow import (
    Farneback,
    compute_fields,
    compute_flow,
    dequantize_flow,
    flow_example,
    input_manifest,
    measure_loss,
    quantize_flow,
)  # fmt: skip
from r21d_core.data.manifest import DatasetCard, Video, load_manifest, write_manifest
from r21d_core.data.sampling import Clips, sample_epoch
from r21d_core.data.sources import open_clips
from r21d_core.data.transforms import augment, center_crop
from r21d_core.engine.train import train
from r21d_core.study.spec import Spec
from tests.bad_videos import write_video

SPEC = Spec(
    modality="flow", data="tiny", profile="demo", depth=10, width=4, frames=4, frame_height=18, frame_width=24, crop=16,
    epochs=1, clips_per_epoch=16, batch_size=4, eval_clips=2, lr=0.01, warmup_epochs=0,
)  # fmt: skip
MAX_DISPLACEMENT = 20.0  # pixels, as in the runs of results/
FLOW_MEAN, FLOW_STD = (0.0046635, 0.0046261), (0.972347, 0.755146)  # of x and y in the authors' code


def moving(frames, by):
    """A smooth pattern that moves by so many pixels a frame, x and y, (frames, 48, 64, 3) uint8."""
    y, x = np.mgrid[:48, :64].astype(float)
    shift = np.arange(frames)[:, None, None]
    x, y = x - by[0] * shift, y - by[1] * shift
    wave = sum(np.sin(x * a + y * b) for a, b in ((0.4, 0.1), (-0.15, 0.35), (0.25, -0.3)))
    return np.repeat((128 + 35 * wave)[..., None], 3, 3).clip(0, 255).astype(np.uint8)


@pytest.fixture
def tiny(tiny_manifest, tmp_path):
    """The tiny set in a folder of the test's own, where its flow goes."""
    manifest = load_manifest(tiny_manifest)
    card = replace(manifest.card, root=str(tiny_manifest.parent / "videos"))
    write_manifest(tmp_path / "tiny.csv", card, manifest.videos)
    return load_manifest(tmp_path / "tiny.csv")


@pytest.mark.parametrize("step", [1, 2])
def test_fields_are_the_motion_over_one_frame_stride(tmp_path, step):
    file = write_video(tmp_path / "a.mp4", moving(9, (1.5, -0.5)))
    found = np.stack(list(compute_fields(file, Farneback(48, 64, step))))
    assert found.shape == (9 - step, 48, 64, 2) and found.dtype == np.float32
    np.testing.assert_allclose(np.median(found[:, 12:-12, 12:-12], (0, 1, 2)), [1.5 * step, -0.5 * step], atol=0.1)


def test_fields_are_opencvs_of_the_decoded_frames(tmp_path):
    file = write_video(tmp_path / "a.mp4", (moving(5, (1, 2)) * [1, 0.6, 0.2]).astype(np.uint8))
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in read_all(file, (24, 32))]
    by_hand = [
        cv2.calcOpticalFlowFarneback(
            one, other, None, pyr_scale=2**-0.5, levels=5, winsize=10, iterations=2, poly_n=7, poly_sigma=1.5,
            flags=cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
        )
        for one, other in zip(grey[:-2], grey[2:], strict=True)
    ]  # fmt: skip
    np.testing.assert_array_equal(np.stack(list(compute_fields(file, Farneback(24, 32, 2)))), np.stack(by_hand))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_video_of_a_step_or_less_has_one_field(tmp_path, frames):
    file = write_video(tmp_path / "a.mp4", moving(frames, (2, 0)))
    (field,) = compute_fields(file, Farneback(48, 64, 3))
    assert abs(np.median(field[..., 0]) - 2 * (frames - 1)) < 0.3


@given(arrays(np.float32, (3, 4, 2), elements=st.floats(-1000, 1000, width=32)))
def test_eight_bits_are_nearest_and_mirrored(field):
    stored = quantize_flow(field)
    kept = dequantize_flow(np.concatenate([stored, stored[..., :1]], axis=-1))
    share = np.sqrt(np.minimum(np.abs(field), MAX_DISPLACEMENT) / MAX_DISPLACEMENT)
    # half a level, whose width in pixels is the slope of the square
    assert (
        np.abs(kept - field.clip(-MAX_DISPLACEMENT, MAX_DISPLACEMENT))
        <= 2 * MAX_DISPLACEMENT * (share + 0.5 / 127) * (0.5 / 127) + 1e-4
    ).all()
    assert (np.sign(kept) * np.sign(field) >= 0).all()
    np.testing.assert_array_equal(dequantize_flow(quantize_flow(-field)), -dequantize_flow(stored))
    torch.testing.assert_close(dequantize_flow(torch.from_numpy(stored)).numpy(), kept.astype("f4"), atol=1e-5, rtol=0)


def test_files_hold_the_fields_with_the_loss_that_is_told(tiny):
    way = Farneback(24, 32)
    flow = compute_flow(tiny, way, workers=0)
    assert [video.frames for video in flow.videos] == [video.frames - 1 for video in tiny.videos]
    told = measure_loss(tiny, flow, way)
    for video, seen in zip(tiny.videos[:3], flow.videos[:3], strict=True):
        exact = np.stack(list(compute_fields(video.path, way))).clip(-MAX_DISPLACEMENT, MAX_DISPLACEMENT)
        kept = dequantize_flow(read_all(seen.path, (24, 32)))
        assert kept.shape == exact.shape and np.sqrt(np.mean((kept - exact) ** 2)) < 0.35  # of noise, which codes badly
        assert np.corrcoef(kept.ravel(), exact.ravel())[0, 1] > 0.98
    assert "loss on 12 videos: median 0." in told


def test_loss_is_told_in_pixels_of_what_can_be_kept(tiny, monkeypatch):
    fields = np.random.default_rng(0).normal(3, 12, (2, 4, 5, 2))
    stored = np.pad(quantize_flow(fields) - 20 * (fields > 0), ((0, 0), (0, 0), (0, 0), (0, 1)))
    monkeypatch.setattr(flow_module, "compute_fields", lambda *_: iter(fields))
    monkeypatch.setattr(flow_module, "read_all", lambda *_: stored)
    told = re.findall(r"(-?\d+\.\d+)", measure_loss(tiny, tiny, Farneback(4, 5)))
    clipped = fields.clip(-20, 20)
    error = dequantize_flow(stored) - clipped
    wanted = np.median(abs(error)), np.linalg.norm(error), np.median(abs(fields)), np.linalg.norm(clipped)
    wanted = [*np.array(wanted) / ([1, error.size**0.5] * 2), 100 * np.mean(abs(fields) > 20)]
    assert [float(number) for number in told] == pytest.approx(wanted, abs=0.006)


def test_flow_is_computed_once_for_each_step(tiny, monkeypatch):
    way, made, encode = Farneback(18, 24), [], Farneback.encode
    monkeypatch.setattr(Farneback, "encode", lambda *args: made.append(args[1]) or encode(*args))
    flow = compute_flow(tiny, way, workers=0)
    dark = replace(tiny, videos=tuple(video for video in tiny.videos if video.label == "dark"))
    assert {video.path for video in compute_flow(dark, way).videos} < {video.path for video in flow.videos}
    assert len(made) == len(set(made)) == 12
    compute_flow(tiny, replace(way, frame_stride=2), workers=0)
    assert len(made) == 24, "another step is another flow"


@pytest.mark.parametrize("more", [1, -1])
def test_fields_of_other_frame_counts_are_refused(tiny, more):
    videos = tuple(replace(video, frames=video.frames + more) for video in tiny.videos)
    fields = tiny.videos[0].frames - 1
    with pytest.raises(R21DError, match=rf"{fields} fields, expected {fields + more} from .*; run `r21d check`"):
        compute_flow(replace(tiny, videos=videos), Farneback(18, 24), workers=0)


def test_folder_that_is_moved_keeps_its_flow(tmp_path, monkeypatch):
    write_video(tmp_path / "a" / "videos" / "1.mp4", moving(5, (2, 0)))
    card = DatasetCard("set", ("x",), root="videos")
    write_manifest(tmp_path / "a" / "set.csv", card, [Video("1.mp4", tmp_path, "x", "train", "1", 5)])
    (before,) = compute_flow(load_manifest(tmp_path / "a" / "set.csv"), Farneback(18, 24), workers=0).videos
    (tmp_path / "a").rename(tmp_path / "b")
    monkeypatch.setattr(Farneback, "encode", lambda *_: pytest.fail("computes it again"))
    (after,) = compute_flow(load_manifest(tmp_path / "b" / "set.csv"), Farneback(18, 24), workers=0).videos
    assert after.path.relative_to(tmp_path / "b") == before.path.relative_to(tmp_path / "a")


def test_roots_of_one_name_keep_their_own_flow(tmp_path):
    manifests = []
    for name, shift in (("a", (2, 0)), ("b", (-2, 0))):
        write_video(tmp_path / name / "videos" / "1.mp4", moving(5, shift))
        card = DatasetCard(name, ("x",), root=f"{name}/videos")
        write_manifest(tmp_path / f"{name}.csv", card, [Video("1.mp4", tmp_path, "x", "train", "1", 5)])
        manifests.append(load_manifest(tmp_path / f"{name}.csv"))
    for number in (0, 1, 0):
        (video,) = compute_flow(manifests[number], Farneback(48, 64), workers=0).videos
        displacement = np.median(dequantize_flow(read_all(video.path, None))[..., 0])
        assert abs(displacement - (2, -2)[number]) < 0.3


def test_undecodable_video_is_named_and_others_are_kept(tiny, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    videos = (*tiny.videos[:3], replace(tiny.videos[3], file=broken, video="dark/broken.mp4"))
    with pytest.raises(R21DError, match=r"no flow of these videos; run `r21d check`(.|\n)*dark/broken\.mp4"):
        compute_flow(replace(tiny, videos=videos), Farneback(18, 24), workers=0)
    assert len(list(tmp_path.rglob("flow-18x24-step1/**/*.mp4"))) == 3


def test_a_manifest_that_was_not_checked_is_refused(tiny):
    videos = tuple(replace(video, frames=None) for video in tiny.videos)
    with pytest.raises(R21DError, match="run `r21d check`"):
        input_manifest(replace(tiny, videos=videos), SPEC)


def stored(pixels):
    """Fields as a video gives them back, with a third color that means nothing."""
    return torch.nn.functional.pad(torch.from_numpy(quantize_flow(pixels)), (0, 1), value=77)


def test_network_sees_pixels_in_units_of_the_authors_deviation():
    pixels = np.random.default_rng(0).uniform(-3, 3, (2, 4, 18, 24, 2)).astype("f4")
    got = center_crop(stored(pixels), SPEC)
    assert got.shape == (2, 2, 4, 16, 16)
    kept = dequantize_flow(stored(pixels))[:, :, 1:17, 4:20]
    wanted = (kept - torch.tensor(FLOW_MEAN)) / torch.tensor(FLOW_STD)
    torch.testing.assert_close(got, wanted.permute(0, 4, 1, 2, 3))


@pytest.mark.parametrize("crop_area", [0.0, 1.0])
def test_a_mirrored_clip_moves_the_other_way(crop_area):
    pixels = np.zeros((2, 4, 18, 24, 2), "f4")
    pixels[..., 0], pixels[..., 1] = 2.0, -1.0
    draws = np.array([[0.5, 0.5, 0, 0.5, flip, 0] for flip in (0.9, 0.1)], "f4")
    clips = Clips(np.arange(2), np.zeros((2, 4), int), np.zeros(2, int), draws)
    x, y = augment(stored(pixels), clips, SPEC.replace(crop_area=crop_area, brightness=0.9)).mean((2, 3, 4)).unbind(1)
    # scaled to 16 × 16 from the whole frame, 18 × 24 at the aspect ratio 1, a motion is as much shorter
    scale = 16 / np.sqrt(18 * 24) if crop_area else 1
    height = 16 / 18 if crop_area else 1  # the window would be higher than the frame is
    np.testing.assert_allclose(x * FLOW_STD[0] + FLOW_MEAN[0], [2 * scale, -2 * scale], atol=0.05)
    np.testing.assert_allclose(y * FLOW_STD[1] + FLOW_MEAN[1], [-height, -height], atol=0.05)


def test_clips_of_flow_need_a_step_more_of_the_video(tiny):
    """L + 1 frames give L fields: clips lie where they fit, and hold the fields of their own frames."""
    spec = SPEC.replace(frames=10, frame_stride=2)
    seen = input_manifest(tiny, spec)
    clips = sample_epoch(spec.replace(clips_per_epoch=200), 0, seen.split("train"), tiny.card.classes)
    counts = np.array([video.frames for video in tiny.split("train")])[clips.video]
    fits = counts >= 9 * 2 + 1 + 2
    assert fits.any() and (clips.frames.max(1) + 2 < counts)[fits].all()
    assert (clips.frames.max(1) + 2 == counts - 1)[fits].any(), "to the last frame"
    ((_, frames),) = open_clips(seen.split("train"), (18, 24), torch.device("cpu")).iter_batches([clips[:3]])
    video = seen.split("train")[clips.video[0]]
    np.testing.assert_array_equal(frames[0].numpy(), read_all(video.path, (18, 24))[clips.frames[0]])


@pytest.mark.parametrize("where", ["host", "stream"])
def test_a_run_on_flow(tiny, tmp_path, where):
    run = train(SPEC, tiny, tmp_path / where, device="cpu", cache=where, workers=0)
    assert run.is_complete and np.isfinite(run.scores.logits).all() and run.scores.protocol["modality"] == "flow"
    assert run.scores.videos.tolist() == [video.video for video in tiny.split("test")]


def test_an_example_has_frames_and_their_flow(tiny):
    frames, flow = flow_example(tiny, SPEC, 1)
    assert frames.shape == (4, 18, 24, 3) and frames.dtype == np.uint8 and flow.shape == (4, 18, 24, 2)
    exact = np.stack(list(compute_fields(tiny.split("test")[1].path, Farneback(18, 24))))
    middle = (len(exact) - 4) // 2
    assert np.abs(flow - exact[middle : middle + 4].clip(-MAX_DISPLACEMENT, MAX_DISPLACEMENT)).mean() < 0.3


@pytest.mark.parametrize("option", ["--height", "--width", "--frame-stride"])
def test_command_refuses_sizes_and_strides_of_zero(tiny, option, capsys):
    assert main(["flow", str(tiny.path), option, "0"]) == 1
    name = option.removeprefix("--").replace("-", "_")
    assert capsys.readouterr().err == f"r21d: {name} is 0, expected 1 or more\n"


def test_command_computes_flow_and_tells_its_loss(tiny, capsys):
    size = ["--height", "24", "--width", "32", "--frame-stride", "2"]
    assert main(["flow", str(tiny.path), *size, "--workers", "0"]) == 0
    told = capsys.readouterr().out
    assert "12 of 12 videos" in told or "still to be made" in told
    assert "flow-24x32-step2" in told and "loss on 12 videos" in told and "kB a frame" in told
