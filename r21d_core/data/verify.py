"""Verifies every video of a manifest: fills in its frame count and size, and sets aside what does not decode."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from r21d_core import R21DError, count_noun
from r21d_core.data.decode import Probe, probe
from r21d_core.data.manifest import (
    REQUIRED,
    Manifest,
    Video,
    check_no_leaks,
    check_rows,
    load_manifest,
    required_cells,
    split_counts,
    write_manifest,
)  # fmt: skip
from r21d_core.data.parallel import parallel_map
from r21d_core.data.rows import read_rows, write_rows
from r21d_core.study.spec import Spec

MAX_LINES = 5  # of a list in a message; the VerifyReport and the quarantine file have all of them
COLUMNS = (*REQUIRED, "reason")
SAVE_SECONDS = 10.0  # between writes of what is checked so far
Identity = tuple[str, int, int]  # of a file: its path, size, and time of the last change in nanoseconds


@dataclass(frozen=True)
class VerifyReport:
    """The result of `verify_videos`. Videos are named as in the manifest."""

    path: Path
    quarantine: Path
    counts: dict[str, int]  # videos a split that are in the manifest now
    expected: dict[str, int]  # of the card
    frames: int
    bad: dict[str, str]  # videos set aside, now or earlier, and the reasons
    returned: tuple[str, ...]  # videos set aside earlier that decode now
    notes: dict[str, tuple[str, ...]]  # peculiarities of videos that are kept
    duplicates: tuple[tuple[str, ...], ...]  # videos that are kept and have the same content as others of their split

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {split}" for split, count in self.counts.items())
        lines = [f"{self.path}: {sum(self.counts.values())} videos decode ({counts}), {self.frames} frames"]
        for split, expected in self.expected.items():
            if missing := expected - self.counts.get(split, 0):
                difference = f"{missing} missing" if missing > 0 else f"{-missing} more"
                lines.append(f"against the {expected} expected in {split}: {difference}")
        lines += format_list(f"set aside in {self.quarantine}", [f"{name}: {why}" for name, why in self.bad.items()])
        lines += format_list("decode now and are included again", self.returned)
        lines += format_list("kept, but odd", [f"{name}: {', '.join(notes)}" for name, notes in self.notes.items()])
        copies = [" = ".join(_shorten(names)) for names in self.duplicates]
        lines += format_list("kept, but with the same content as another video of the split", copies)
        return "\n".join(lines)


def verify_videos(manifest_path: Path | str, *, workers: int | None = None) -> VerifyReport:
    """Decode every video of a manifest and fill in frames, fps, width and height.

    Videos that do not decode go to NAME.quarantine.csv beside it; a later call takes those that decode back.
    `workers` is the number of processes: None is one a CPU, 0 is this process. A call that takes longer than
    SAVE_SECONDS and does not complete leaves NAME.checking.jsonl, from which the next call continues.

    Raises R21DError, and leaves the files unchanged, if a video, group or content lies in two splits, if a class
    loses its last training video, if no video decodes, and for a symbolic link, in whose place a file would be written.
    An interrupted call changes none of them either.
    """
    if (link := Path(manifest_path)).is_symlink():
        raise R21DError(
            f"{link}: a symbolic link, which the checked manifest would replace; check {link.resolve()} itself, or put "
            "a copy of it and of its card here"
        )
    manifest = load_manifest(manifest_path)
    check_no_leaks(manifest)  # before hours of decoding
    path, quarantine = manifest.path, manifest.path.with_suffix(".quarantine.csv")
    listed = {video.video: video for video in manifest.videos}
    earlier = {video.video: (video, reason) for video, reason in _read_quarantine(quarantine, manifest)}
    videos = sorted([*listed.values(), *(earlier[name][0] for name in earlier.keys() - listed)], key=lambda v: v.video)

    progress = path.with_suffix(".checking.jsonl")
    results = _verify_all(videos, workers, progress)
    kept, bad, notes, by_digest = [], {}, {}, {}
    for video, (probed, digest_or_reason) in zip(videos, results, strict=True):
        if probed is None:
            bad[video.video] = video, digest_or_reason
            continue
        fps = round(probed.fps or 0, 3) or None  # a rate below 0.0005 is none
        kept.append(replace(video, frames=probed.frames, fps=fps, width=probed.width, height=probed.height))
        by_digest.setdefault(digest_or_reason, []).append(kept[-1])
        if video_notes := _notes(probed):
            notes[video.video] = video_notes
    verified = replace(manifest, videos=tuple(kept))
    check_class_coverage(manifest, verified, bad)
    check_rows(path, manifest.card, kept)
    check_no_leaks(verified)
    duplicates = [videos for videos in by_digest.values() if len(videos) > 1]
    _check_no_shared_content(path, duplicates)

    write_quarantine(quarantine, earlier | bad)  # first, so that a crash before the last write loses no row
    write_manifest(path, manifest.card, kept)
    write_quarantine(quarantine, bad)
    progress.unlink(missing_ok=True)
    return VerifyReport(
        path=path,
        quarantine=quarantine,
        counts=split_counts(kept),
        expected=manifest.card.expected,
        frames=sum(video.frames for video in kept),
        bad={name: reason for name, (_, reason) in bad.items()},
        returned=tuple(video.video for video in kept if video.video not in listed),
        notes=notes,
        duplicates=tuple(tuple(video.video for video in videos) for videos in duplicates),
    )


def _check_no_shared_content(path: Path, duplicates: Sequence[Sequence[Video]]) -> None:
    """Raise R21DError if videos with the same content, a sequence each, lie in two splits."""
    across = [videos for videos in duplicates if len({video.split for video in videos}) > 1]
    if across:
        message = f"{path}: the same content in two splits, so the accuracy would be too high; "
        message += f"keep one split's rows of each ({len(across)}):"
        sets = [" = ".join(_shorten([f"{video.video} in {video.split}" for video in videos])) for videos in across]
        raise R21DError("\n".join([message, *(f"  {names}" for names in sets)]))


def _verify_all(videos: Sequence[Video], workers: int | None, progress: Path) -> list[tuple[Probe | None, str]]:
    """The result of `_verify_video` for each video, without the file's identity.

    Those of videos that decode are read from the file `progress` and added to it as they come, for the next call.
    """
    earlier = _read_progress(progress)
    results = {v.video: earlier[key] for v in videos if earlier and (key := _identity(v)) in earlier}
    if results:
        text = f"{progress}: {len(results):,} of {len(videos):,} videos were checked earlier and have not changed"
        print(text, flush=True)
    todo = [video for video in videos if video.video not in results]
    on_death = "the manifest is unchanged, and the same command resumes"
    lines, saved = [], time.monotonic()
    try:
        verified = parallel_map(_verify_video, todo, workers, "checking", on_death)
        for video, (probed, digest, identity) in zip(todo, verified, strict=True):
            results[video.video] = probed, digest
            if probed and identity:
                lines.append(json.dumps([*identity, digest, asdict(probed)]) + "\n")
            if time.monotonic() - saved > SAVE_SECONDS:
                _append(progress, lines)
                saved = time.monotonic()
    finally:  # whatever ends the loop
        if progress.exists():
            _append(progress, lines)
    return [results[video.video] for video in videos]


def _verify_video(video: Video) -> tuple[Probe | None, str, Identity | None]:
    """The Probe of a video, and the SHA-256 and the identity of its file; or None, why it does not decode, and None."""
    try:
        identity = _identity(video)  # before the file is read, should it change meanwhile
        probed = probe(video.path)
        with open(video.path, "rb") as file:
            return probed, hashlib.file_digest(file, "sha256").hexdigest(), identity
    except R21DError as error:
        return None, str(error).removeprefix(f"{video.path}: "), None  # the quarantine's row names the video
    except OSError as error:
        return None, f"could not be read ({error.strerror})", None


def _identity(video: Video) -> Identity | None:
    """The path, size and time of the last change of a video's file; None if it cannot be looked at."""
    try:
        stat = video.path.stat()
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return str(video.path), stat.st_size, stat.st_mtime_ns


def _read_progress(path: Path) -> dict[Identity | None, tuple[Probe, str]]:
    """What an earlier call has added to the file `path`, without lines that are not whole, such as the last one.

    Raises R21DError for a line that is whole, but not one that `_verify_all` writes.
    """
    results = {}
    try:
        with suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                with suppress(json.JSONDecodeError):
                    identity, probed, digest = _parse_result(f"{path}: line {number}", line)
                    results[identity] = probed, digest
    except OSError as error:
        what = f"could not be read ({error.strerror}); remove it, and all videos are checked again"
        raise R21DError(f"{path}: {what}") from error
    return results


def _parse_result(place: str, line: str) -> tuple[Identity, Probe, str]:
    """The identity of a video's file, its Probe and the SHA-256 in a line of the progress; `place` is for messages."""
    try:
        name, size, changed, digest, fields = json.loads(line)
        probed = Probe(**fields | {"notes": tuple(fields["notes"])})
        counts = probed.frames, probed.width, probed.height
        is_sound = {*map(type, (name, digest, *probed.notes))} == {str}
        is_sound &= {*map(type, (size, changed, *counts))} == {int}
        if not (is_sound and min(counts) > 0 and 0 <= (probed.fps or 0) < math.inf):
            raise ValueError("other values")
        return (name, size, changed), probed, digest
    except json.JSONDecodeError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = "expected the path, size, time, SHA-256 and contents of a video's file, as `r21d check` writes them"
        raise R21DError(f"{place}: {what}; remove the line, and that video is checked again") from error


def _append(path: Path, lines: list[str]) -> None:
    """Add the lines to the file `path` and clear their list."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        what = f"could not be written ({error.strerror}); free some space, or change the permissions"
        raise R21DError(f"{path}: {what}") from error
    lines.clear()


def _notes(probed: Probe) -> tuple[str, ...]:
    """The peculiarities of a video that is kept, among them a length below the paper's clip."""
    count = count_noun(probed.frames, "frame")
    short = f"{count}, fewer than the paper's clip of {Spec.frames}, which then continues at its first frame"
    return (*probed.notes, *[short] * (probed.frames < Spec.frames))


def _read_quarantine(path: Path, manifest: Manifest) -> Iterator[tuple[Video, str]]:
    if path.exists():
        root = manifest.root
        for _, (video, label, split, group, reason, *_) in read_rows(path, COLUMNS):
            yield Video(video, root, label, split, group), reason


def write_quarantine(path: Path, bad: dict[str, tuple[Video, str]]) -> None:
    """Write the rows of bad videos, with the reasons, to the CSV file `path`; delete it if there are none."""
    if bad:
        write_rows(path, COLUMNS, ((*required_cells(video), reason) for _, (video, reason) in sorted(bad.items())))
    else:
        path.unlink(missing_ok=True)


def check_class_coverage(manifest: Manifest, verified: Manifest, bad: dict[str, tuple[Video, str]]) -> None:
    """Raise R21DError if no video decodes, or if a class has lost all of its training videos."""
    if not verified.videos:
        reasons = [f"{name}: {reason}" for name, (_, reason) in bad.items()]
        raise R21DError("\n".join(format_list(f"{manifest.path}: none of its videos decodes", reasons)))
    before, now = ({video.label for video in m.videos if video.split == "train"} for m in (manifest, verified))
    if lost := sorted(before - now):
        rows = [row for row in bad.values() if (row[0].label, row[0].split) == (lost[0], "train")]
        message = f"{manifest.path}: no training video of class {lost[0]!r} decodes; nothing was changed. "
        message += "Download these again, or remove the class from the manifest and its card"
        raise R21DError("\n".join(format_list(message, [f"{video.video}: {reason}" for video, reason in rows])))


def _shorten(names: Sequence[str]) -> list[str]:
    """The first MAX_LINES of many names, and how many more there are."""
    more = [f"{len(names) - MAX_LINES} more"] if len(names) > MAX_LINES else []
    return [*names[:MAX_LINES], *more]


def format_list(title: str, items: Iterable[str]) -> list[str]:
    """The lines of a titled list for a message: the number of items and the first MAX_LINES; empty without items."""
    items = list(items)
    more = [f"  and {len(items) - MAX_LINES} more"] if len(items) > MAX_LINES else []
    return [f"{title} ({len(items)}):", *(f"  {item}" for item in items[:MAX_LINES]), *more] if items else []
