"""Folders and lists of data sets for the tests, small ones and, where they are there, the official ones."""

from pathlib import Path

import pytest

from r21d_core.data.manifest import check_no_leaks, load_manifest, write_manifest

DATA = Path(__file__).parents[2] / "shared" / "data"


def touch(root, *names):
    """`root` with empty files of these names."""
    for folder in {(root / name).parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).touch()
    return root


def ucf(*labels, groups=25, clips=2, ending=".avi"):
    """The videos' names as UCF101 has them."""
    return [
        f"{label}/v_{label}_g{group:02d}_c{clip:02d}{ending}"
        for label in labels
        for group in range(1, groups + 1)
        for clip in range(1, clips + 1)
    ]


def write(path, *lines, end="\n", mark=""):
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((mark + "".join(line + end for line in lines)).encode())
    return path


def official(name):
    """The folder of a data set's official lists; the test is skipped where they are not."""
    folder = DATA / "lists" / name
    if not folder.is_dir():
        pytest.skip("the official lists are not here")
    return folder


def sides(listing):
    return {video.video: video.split for video in listing.videos}


def checked(tmp_path, listing):
    """The manifest of a Listing, written, loaded and free of leaks."""
    path = tmp_path / "manifests" / f"{listing.card.name}.csv"
    write_manifest(path, listing.card, listing.videos)
    manifest = load_manifest(path)
    check_no_leaks(manifest)
    assert [video.path for video in manifest.videos] == sorted((video.path for video in listing.videos), key=str)
    return manifest
