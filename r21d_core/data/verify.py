"""Opens every video of a manifest once: fills in what it holds, and sets aside what does not decode."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.decode import Probe, probe
from r21d_core.data.manifest import (
    REQUIRED,
    SPLITS,
    Manifest,
    Video,
    check_no_leaks,
    load_manifest,
    read_rows,
    validate_rows,
    write_manifest,
    write_rows,
)
from r21d_core.data.parallel import parallel_map
from r21d_core.study.spec import Spec

SHOWN = 5  # lines of a kind in a message; all of them are in the VerifyReport and in the quarantine file
COLUMNS = (*REQUIRED, "reason")


@dataclass(frozen=True)
class VerifyReport:
    """What `verify_videos` found. Videos go by their name in the manifest."""

    path: Path
    quarantine: Path
    counts: dict[str, int]  # videos a split that are in the manifest now
    expected: dict[str, int]  # as the card has it
    frames: int
    bad: dict[str, str]  # set aside: video and reason, those of earlier checks too
    returned: tuple[str, ...]  # set aside earlier, and sound now
    notes: dict[str, tuple[str, ...]]  # kept, but odd
    twice: tuple[tuple[str, ...], ...]  # kept, but of the same content, on one side

    def __str__(self) -> str:
        sides = ", ".join(f"{count} {split}" for split, count in self.counts.items())
        lines = [f"{self.path}: {sum(self.counts.values())} videos decode ({sides}), {self.frames} frames"]
        for split, expected in self.expected.items():
            if less := expected - self.counts.get(split, 0):
                state = f"{less} missing" if less > 0 else f"{-less} more"
                lines.append(f"against the {expected} expected in {split}: {state}")
        lines += format_list(f"set aside in {self.quarantine}", [f"{name}: {why}" for name, why in self.bad.items()])
        lines += format_list("decode again and are back", self.returned)
        lines += format_list("kept, but odd", [f"{name}: {', '.join(notes)}" for name, notes in self.notes.items()])
        lines += format_list("kept, but the same content on one side", [" = ".join(names) for names in self.twice])
        return "\n".join(lines)


def verify_videos(manifest_path: Path | str, *, workers: int | None = None, progress: bool = True) -> VerifyReport:
    """Decode every video of a manifest and fill frames, fps, width and height in, by `workers` processes.

    What does not decode goes to STEM.quarantine.csv beside it, and comes back by a later verify_videos once it decodes.
    `workers` is one a core if None, and 0 is this process.

    Raises R21DError, and leaves the files as they were, if a video, group or content lies on two sides, if a class
    has nothing to train on any more, and if no video decodes. Nothing is written either when it is interrupted.
    """
    manifest = load_manifest(manifest_path)
    check_no_leaks(manifest)  # before hours of decoding
    path, quarantine = manifest.path, manifest.path.with_suffix(".quarantine.csv")
    listed = {video.video: video for video in manifest.videos}
    earlier = {video.video: (video, reason) for video, reason in _read_quarantine(quarantine, manifest)}
    videos = sorted([*listed.values(), *(earlier[name][0] for name in earlier.keys() - listed)], key=lambda v: v.video)

    told_of_each = parallel_map(_look, videos, workers, "checking", "nothing was written", progress)
    looks = dict(zip((video.video for video in videos), told_of_each, strict=True))
    kept, bad, digests = [], {}, {}
    for video in videos:
        found, told = looks[video.video]
        if found is None:
            bad[video.video] = video, told
        else:
            fps = found.fps and round(found.fps, 3)
            kept.append(replace(video, frames=found.frames, fps=fps, width=found.width, height=found.height))
            digests.setdefault(told, []).append(kept[-1])
    checked = replace(manifest, videos=tuple(kept))
    check_class_coverage(manifest, checked, bad)
    validate_rows(path, manifest.card, kept)
    check_no_leaks(checked)
    alike = [videos for videos in digests.values() if len(videos) > 1]
    _refuse_same_content(path, alike)

    write_quarantine(quarantine, earlier | bad)  # first, so that a crash between two writings loses no row
    write_manifest(path, manifest.card, kept)
    write_quarantine(quarantine, bad)
    counts = Counter(video.split for video in kept)
    return VerifyReport(
        path,
        quarantine,
        {split: counts[split] for split in SPLITS if counts[split]},
        manifest.card.expected,
        sum(video.frames for video in kept),
        {name: reason for name, (_, reason) in bad.items()},
        tuple(video.video for video in kept if video.video not in listed),
        {video.video: notes for video in kept if (notes := _odd(looks[video.video][0]))},
        tuple(tuple(video.video for video in videos) for videos in alike),
    )


def _look(video: Video) -> tuple[Probe | None, str]:
    """What a video holds and the SHA-256 of its file; None and the reason if it does not decode."""
    try:
        found = probe(video.path)
        with open(video.path, "rb") as file:
            return found, hashlib.file_digest(file, "sha256").hexdigest()
    except R21DError as error:
        return None, str(error).removeprefix(f"{video.path}: ")  # the row names it, wherever the set lies
    except OSError as error:
        return None, f"could not be read ({error.strerror})"


def _odd(found: Probe) -> tuple[str, ...]:
    """What is odd about a video that is kept: what its file shows, and that it is shorter than the paper's clip."""
    if found.frames >= Spec.frames:
        return found.notes
    count = f"{found.frames} frame{'s' * (found.frames > 1)}"
    short = f"{count}, fewer than the paper's clip of {Spec.frames}, which then begins anew at its first frame"
    return (*found.notes, short)


def _read_quarantine(path: Path, manifest: Manifest) -> Iterator[tuple[Video, str]]:
    if path.exists():
        root = manifest.root
        for _, cells in read_rows(path, COLUMNS):
            yield Video(path=root / cells["video"], **{name: cells[name] for name in REQUIRED}), cells["reason"]


def write_quarantine(path: Path, bad: dict[str, tuple[Video, str]]) -> None:
    if bad:
        write_rows(path, COLUMNS, (vars(bad[name][0]) | {"reason": bad[name][1]} for name in sorted(bad)))
    else:
        path.unlink(missing_ok=True)


def check_class_coverage(manifest: Manifest, checked: Manifest, bad: dict[str, tuple[Video, str]]) -> None:
    """Raise R21DError if what does not decode is all there is of a class's training side, or all there is."""
    if not checked.videos:
        reasons = [f"{name}: {reason}" for name, (_, reason) in bad.items()]
        raise R21DError("\n".join(format_list(f"{manifest.path}: none of its videos decodes", reasons)))
    before, now = ({video.label for video in each.videos if video.split == "train"} for each in (manifest, checked))
    if lost := sorted(before - now):
        of_lost = [(video, reason) for video, reason in bad.values() if video.label == lost[0]]
        reasons = [f"{video.video}: {reason}" for video, reason in of_lost if video.split == "train"]
        what = (
            f"{manifest.path}: no video of class {lost[0]!r} is left to train on; nothing was changed. "
            "Fetch these again, or take the class out of the manifest and its card"
        )
        raise R21DError("\n".join(format_list(what, reasons)))


def _refuse_same_content(path: Path, alike: list[list[Video]]) -> None:
    for videos in alike:
        for other in videos[1:]:
            if other.split != videos[0].split:
                raise R21DError(
                    f"{path}: {videos[0].video} in {videos[0].split} and {other.video} in {other.split} are the same "
                    "content, so the result would be too good; take one of the two rows out"
                )


def format_list(title: str, lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [f"{title} ({len(lines)}):", *(f"  {line}" for line in lines[:SHOWN]), *more] if lines else []
