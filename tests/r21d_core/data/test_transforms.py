"""Crops, flips, scaling and normalisation on the device, against one clip at a time by hand."""

import numpy as np
import pytest
import torch
from torchvision.models.video import R2Plus1D_18_Weights
from torchvision.transforms.v2 import functional as tv

from r21d_core.data.sampling import Clips
from r21d_core.data.transforms import augment, center_crop
from r21d_core.study.spec import Spec

PRESET = R2Plus1D_18_Weights.KINETICS400_V1.transforms()
MEAN, STD = PRESET.mean, PRESET.std
SPEC = Spec(frames=3, frame_height=20, frame_width=28, crop=16)


@pytest.fixture
def frames():
    return torch.randint(0, 256, (5, 3, 20, 28, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def clips(draws):
    n = len(draws)
    return Clips(np.arange(n), np.zeros((n, 3), int), np.zeros(n, int), np.asarray(draws, np.float32))


def by_hand(pixels):
    """(T, h, w, 3) uint8 or float of 0–255 as the (3, T, h, w) input that it should become."""
    return ((pixels.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(3, 0, 1, 2).float()


def test_fixed_crop_and_flip_match_slicing(frames):
    draws = np.random.default_rng(1).random((5, 6), np.float32)
    draws[:2, 4] = 0.49, 0.5
    draws[2:4, :2] = [[0], [np.nextafter(np.float32(1), np.float32(0))]]  # two corners; the largest draw there is
    got = augment(frames, clips(draws), SPEC)
    assert got.shape == (5, 3, 3, 16, 16) and got.dtype == torch.float32
    for i, (y, x, _, _, flip, _) in enumerate(draws):
        top, left = int(y * 5), int(x * 13)
        window = frames[i, :, top : top + 16, left : left + 16]
        torch.testing.assert_close(got[i], by_hand(window.flip(2) if flip < 0.5 else window))


@pytest.mark.parametrize("crop", [16, 24])  # of 20: smaller and larger
def test_resized_crop_matches_torchvision(frames, crop):
    """The whole frame scaled: area 1 at the frame's own aspect ratio, by torchvision without smoothing."""
    spec = SPEC.replace(crop_area=1.0, frame_height=24, frame_width=24, crop=crop)
    square = frames[:, :, :20, :20]
    got = augment(square, clips([[0.3, 0.7, 0.5, 0.5, 1, 0]] * 5), spec)
    wanted = tv.resize(square[2].permute(0, 3, 1, 2).float(), [crop, crop], antialias=False).permute(0, 2, 3, 1)
    torch.testing.assert_close(got[2], by_hand(wanted), atol=2e-3, rtol=0)


def test_resized_crop_of_part_and_its_mirror_image(frames):
    spec = SPEC.replace(crop_area=0.35)
    draws = np.random.default_rng(2).random((5, 6), np.float32)
    draws[:, 4] = 0.9
    plain = augment(frames, clips(draws), spec)
    draws[:, 4] = 0.1
    torch.testing.assert_close(augment(frames, clips(draws), spec), plain.flip(4), atol=1e-3, rtol=0)


def test_resized_crop_covers_the_share_it_draws():
    """On a ramp of positions the corners of the window are read off its values."""
    height, width = 60, 80
    ramp = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1)
    ramp = torch.cat([ramp, torch.zeros(height, width, 1)], -1).to(torch.uint8)
    spec = SPEC.replace(frame_height=60, frame_width=80, crop=40, crop_area=0.3)
    draws = np.random.default_rng(3).random((30, 6), np.float32)
    draws[:, 4] = 0.9
    got = augment(ramp.expand(30, 3, height, width, 3), clips(draws), spec)
    pixels = got.permute(0, 2, 3, 4, 1) * torch.tensor(STD) * 255 + torch.tensor(MEAN) * 255
    size_y = (pixels[:, 0, 30, 20, 0] - pixels[:, 0, 10, 20, 0]) * 40 / 20
    size_x = (pixels[:, 0, 20, 30, 1] - pixels[:, 0, 20, 10, 1]) * 40 / 20
    share = 0.3 + 0.7 * draws[:, 2]
    ratio = (4 / 3) ** (2 * draws[:, 3] - 1)
    wanted_y = np.minimum(np.sqrt(share * height * width / ratio), height)
    wanted_x = np.minimum(np.sqrt(share * height * width * ratio), width)
    np.testing.assert_allclose(size_y, wanted_y, rtol=1e-3)
    np.testing.assert_allclose(size_x, wanted_x, rtol=1e-3)
    for axis, size, whole in ((0, wanted_y, height), (1, wanted_x, width)):
        center = draws[:, axis] * (whole - size) + size * 20.5 / 40 - 0.5  # the value of a pixel is its position
        np.testing.assert_allclose(pixels[:, 0, 20, 20, axis], center, atol=0.01)


def test_centre_is_the_middle_in_the_layout_of_convolutions(frames):
    got = center_crop(frames, SPEC.replace(crop=15))
    torch.testing.assert_close(got[1], by_hand(frames[1, :, 2:17, 6:21]))
    assert got.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(("brightness", "color"), [(0.5, 0), (0, 0.6), (0.5, 0.6)])
def test_light_and_color_match_torchvision(frames, brightness, color):
    spec = SPEC.replace(brightness=brightness, color=color, flip=False)
    draws = np.random.default_rng(3).random((5, 8), np.float32)
    got = augment(frames[:, :1], clips(draws), spec)
    for i, (y, x, *_, light, contrast, saturation) in enumerate(draws):
        top, left = int(y * 5), int(x * 13)
        window = frames[i, 0, top : top + 16, left : left + 16].permute(2, 0, 1) / 255
        window = tv.adjust_brightness(window, float(1 + (2 * light - 1) * brightness))
        window = tv.adjust_contrast(window, float(1 + (2 * contrast - 1) * color))
        window = tv.adjust_saturation(window, float(1 + (2 * saturation - 1) * color))
        torch.testing.assert_close(got[i], by_hand(255 * window.permute(1, 2, 0)[None]), rtol=0, atol=2e-4)


def test_color_changes_a_clip_as_a_whole(frames):
    still = frames[:, :1].repeat(1, 3, 1, 1, 1)
    still[:, 1] //= 2  # a darker frame: with a gray of its own it would keep its mean
    got = augment(still, clips([[0, 0, 0, 0, 1, 0, 0.0, 0.5]] * 5), SPEC.replace(color=1.0))
    assert (got - got[:, :, :1, :1, :1]).abs().max() < 1e-5, "no contrast is one gray for all frames of the clip"
