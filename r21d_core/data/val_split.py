"""A validation cut: some of a set's own training groups, to choose a recipe on before the test videos are looked at."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest, check_no_leaks
from r21d_core.data.official_splits import split_counts
from r21d_core.study.experiments import VAL_SUFFIX

HOLDOUT_EVERY = 4  # of a class's training groups, in the order of their names, each fourth is held out


def make_val_split(manifest: Manifest) -> Manifest:
    """The Manifest NAME-val, to be written beside `manifest`: its training videos alone, some groups of them to test.

    A group is on one side, with all of its videos of any class; videos that `manifest` tests are on none. What was
    found out of the videos is kept.

    Raises R21DError if there are no training videos, if a class has too few groups for both sides, and for a group that
    `manifest` has on two sides.
    """
    check_no_leaks(manifest)
    groups = defaultdict(set)
    for video in manifest.split("train"):
        groups[video.label].add(video.group)
    held_out = {group for names in groups.values() for group in sorted(names)[HOLDOUT_EVERY - 1 :: HOLDOUT_EVERY]}
    for label, names in groups.items():
        if names <= held_out or not names & held_out:
            raise R21DError(
                f"{manifest.path}: class {label!r} has {len(names)} groups in train, expected {HOLDOUT_EVERY} or more, some of "
                "them no other class's, so that both sides of a validation cut hold the class; leave the class out"
            )
    videos = tuple(
        replace(video, split="test" if video.group in held_out else "train") for video in manifest.split("train")
    )
    card = replace(manifest.card, name=f"{manifest.card.name}{VAL_SUFFIX}", expected=split_counts(videos))
    return Manifest(manifest.path.with_name(f"{card.name}.csv"), card, videos)
