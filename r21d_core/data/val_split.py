"""A validation split, for choosing a recipe without looking at the test videos: a set's own, or cut from training."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from r21d_core import R21DError, count_noun
from r21d_core.data.manifest import Manifest, check_no_leaks, split_counts
from r21d_core.study.recipes import VAL_SUFFIX

HOLDOUT_EVERY = 4  # every fourth of a class's training groups, in the order of their names, is held out


def make_val_split(manifest: Manifest) -> Manifest:
    """The Manifest NAME-val beside `manifest`, not written: its training videos, and its `val` videos as test split.

    Without `val` videos some groups of the training videos are the test split. Raises R21DError without training
    videos, for a class with too few groups to split, and for a group in two splits.
    """
    check_no_leaks(manifest)
    groups = defaultdict(set)
    for video in manifest.split("train"):
        groups[video.label].add(video.group)
    videos = tuple(video for video in manifest.videos if video.split != "test")
    held_out = {video.group for video in videos if video.split == "val"}
    if not held_out:
        held_out = {group for names in groups.values() for group in sorted(names)[HOLDOUT_EVERY - 1 :: HOLDOUT_EVERY]}
        for label, names in groups.items():
            if names <= held_out or not names & held_out:
                expected = f"{HOLDOUT_EVERY} or more, some in no other class, so that both new splits hold the class"
                what = f"class {label!r} has {count_noun(len(names), 'group')} in train, expected {expected}"
                raise R21DError(f"{manifest.path}: {what}; leave the class out")
    videos = tuple(replace(video, split="test" if video.group in held_out else "train") for video in videos)
    card = replace(manifest.card, name=f"{manifest.card.name}{VAL_SUFFIX}", expected=split_counts(videos))
    return Manifest(manifest.path.with_name(f"{card.name}.csv"), card, videos)
