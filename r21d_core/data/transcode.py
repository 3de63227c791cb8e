"""Transcodes every video of a manifest to small files with frequent key frames, from which clips decode fast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from r21d_core import R21DError, count_noun
from r21d_core.data.decode import iter_timed_frames
from r21d_core.data.encode import encode_h264, encode_jobs, encode_videos
from r21d_core.data.manifest import check_no_leaks, load_manifest, write_manifest
from r21d_core.data.verify import check_class_coverage, format_list, write_quarantine
from r21d_core.data.video_file import open_video

TICKS = 90_000  # a second: the time base where frames keep their own times


@dataclass(frozen=True)
class EncodeOptions:
    """An `Encoder` to H.264 in MP4, 4:2:0, with a key frame every `gop` frames or sooner, at constant quality `crf`.
    `fps` None keeps every frame at its own time.
    """

    height: int = 128
    width: int = 172
    fps: Fraction | None = None
    gop: int = 12
    crf: int = 20

    def __post_init__(self):
        for name in ("height", "width"):
            if (value := getattr(self, name)) < 2 or value % 2:
                raise R21DError(
                    f"{name} is {value}, expected an even number, as chroma has half the size in H.264; 172 serves for "
                    "the paper's 171, as frames are scaled to the size of a run"
                )
        if self.gop < 1 or not 0 < self.crf <= 51 or (self.fps is not None and not 0 < self.fps <= 1000):
            raise R21DError(f"{self}: expected gop of 1 or more, crf from 1 to 51, fps above 0 and up to 1000")

    @property
    def suffix(self) -> str:
        """What a manifest's name gets for these options."""
        return f"{self.height}x{self.width}" + (f"-{float(self.fps):g}fps" if self.fps else "")

    def __str__(self) -> str:
        rate = f"{float(self.fps):g} fps" if self.fps else "every frame"
        return f"H.264, {self.height}×{self.width}, {rate}, GOP {self.gop}, CRF {self.crf}"

    def encode(self, source: Path, provenance_tag: str) -> bytes:
        """The video at `source` as an MP4 file that holds `provenance_tag`."""
        size, time_base = (self.height, self.width), None if self.fps else Fraction(1, TICKS)
        options = {"preset": "medium", "tune": "fastdecode", "bf": "0", "g": str(self.gop), "crf": str(self.crf)}
        with open_video(source) as video:
            note = video.clock_note
        frames, rate = _resample(iter_timed_frames(source, size), self.fps), self.fps or 25
        return encode_h264(frames, size, options, provenance_tag, rate=rate, time_base=time_base, note=note)


@dataclass(frozen=True)
class PrepareReport:
    """The result of `prepare`. Bytes are of the kept videos."""

    path: Path
    options: EncodeOptions
    videos: int
    encoded: int  # in this call; the others were there
    bytes_before: int
    bytes_after: int
    bad: dict[str, str]  # videos as named in the source manifest, and the reasons
    notes: dict[str, str]  # peculiarities of videos that are kept

    def __str__(self) -> str:
        bad, odd = ([f"{name}: {reason}" for name, reason in rows.items()] for rows in (self.bad, self.notes))
        lines = [
            f"{self.path}: {count_noun(self.videos, 'video')} ({self.options}), {self.encoded} encoded now",
            f"{self.bytes_before / 1e6:,.1f} MB before, {self.bytes_after / 1e6:,.1f} MB now",
            *format_list(f"set aside in {self.path.with_suffix('.quarantine.csv')}", bad),
            *format_list("kept, but odd", odd),
        ]
        return "\n".join(lines)


def prepare(
    manifest_path: Path | str, out: Path | str | None = None, options: EncodeOptions | None = None, *,
    workers: int | None = None,
) -> PrepareReport:  # fmt: skip
    """Transcode every video of a manifest and write the manifest NAME-128x172[-15fps].csv of the new files.

    The manifest goes to the folder `out`, by default that of the source manifest, the videos to a folder of the same
    name beside it. Files that are up to date are kept. Frames are those of `read_all`; with `options.fps`, frame k is
    the one shown k/fps seconds after the first. Videos that do not decode go to NAME-….quarantine.csv.

    Raises R21DError, before anything is encoded, if the manifest leaks, if it names videos outside its root, and if the
    disk has too little space; later if no video, or no training video of a class, decodes.
    """
    options = options or EncodeOptions()
    manifest = load_manifest(manifest_path)
    check_no_leaks(manifest)
    name = f"{manifest.card.name}-{options.suffix}"
    path = (Path(out) if out else manifest.path.parent) / f"{name}.csv"
    folder = path.with_suffix("")
    jobs = encode_jobs(manifest, folder, options)
    results, encoded = encode_videos(jobs, path.parent, workers, "preparing")

    kept, bad, notes = {}, {}, {}
    for video, job, result in zip(manifest.videos, jobs, results, strict=True):
        if isinstance(result, str):
            bad[video.video] = video, result
        else:
            columns, note, is_new = result
            notes |= {video.video: f"{note}, where time goes on at the mean rate"} if note else {}
            target = job.target.relative_to(folder).as_posix()
            kept[video] = replace(video, video=target, root=folder, file=None, **columns)
            encoded += is_new
    check_class_coverage(manifest, replace(manifest, videos=tuple(kept)), bad)
    card = replace(
        manifest.card,
        name=name,
        source=f"{manifest.card.source or manifest.card.name}; from {manifest.card.name} by r21d prepare: {options}",
        root=name,
        frame_rate=f"{float(options.fps):g} fps" if options.fps else manifest.card.frame_rate or "as the source's",
    )
    write_manifest(path, card, kept.values())
    write_quarantine(path.with_suffix(".quarantine.csv"), bad)
    size, new_size = (sum(video.path.stat().st_size for video in videos) for videos in (kept, kept.values()))
    reasons = {name: reason for name, (_, reason) in bad.items()}
    return PrepareReport(path, options, len(kept), encoded, size, new_size, reasons, notes)


def _resample(
    frames: Iterator[tuple[Fraction, np.ndarray | None]], fps: Fraction | None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (pts, duration, pixels): every frame in units of 1/TICKS s, or the frames shown at each 1/fps s."""
    previous = first = None
    pts = 0
    for seconds, pixels in frames:
        first = seconds if first is None else first
        if previous is not None and fps:
            while pts < (seconds - first) * fps:
                yield pts, 1, previous
                pts += 1
        elif previous is not None:
            end = max(round((seconds - first) * TICKS), pts + 1)
            yield pts, end - pts, previous
            pts = end
        previous = pixels
