"""A validation split cut from a set's training groups, for choosing a recipe without looking at the test videos."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest, check_no_leaks
from r21d_core.data.official_splits import split_counts
from r21d_core.study.recipes import VAL_SUFFIX

HOLDOUT_EVERY = 4  # every fourth of a class's training groups, in the order of their names, is held out


def make_val_split(manifest: Manifest) -> Manifest:
    """The Manifest NAME-val beside `manifest`, not written: its training videos, some groups of them as test split.

    A group is in one split, with its videos of every class. The test videos of `manifest` are left out. Frame counts
    and sizes are kept.

    Raises R21DError if there are no training videos, if a class has too few groups for two splits, and for a group that
    `manifest` has in two splits.
    """
    check_no_leaks(manifest)
    groups = defaultdict(set)
    for video in manifest.split("train"):
        groups[video.label].add(video.group)
    held_out = {group for names in groups.values() for group in sorted(names)[HOLDOUT_EVERY - 1 :: HOLDOUT_EVERY]}
    for label, names in groups.items():
        if names <= held_out or not names & held_out:
            raise R21DError(
                f"{manifest.path}: class {label!r} has {len(names)} groups in train, expected {HOLDOUT_EVERY} or more, "
                "some of them in no other class, so that both new splits hold the class; leave the class out"
            )
    videos = tuple(
        replace(video, split="test" if video.group in held_out else "train") for video in manifest.split("train")
    )
    card = replace(manifest.card, name=f"{manifest.card.name}{VAL_SUFFIX}", expected=split_counts(videos))
    return Manifest(manifest.path.with_name(f"{card.name}.csv"), card, videos)
