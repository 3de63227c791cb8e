"""Export a network for other software: to ONNX, or to a .pt2 file for `torch.export.load`."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from r21d_core import R21DError, __version__
from r21d_core.data.flow import Farneback
from r21d_core.data.transforms import FLOW_MEAN, FLOW_STD, MEAN, STD
from r21d_core.engine.classify import class_names, published_row, spec_for_video
from r21d_core.models.convert import Weights
from r21d_core.models.load import model_from_weights, read_weights
from r21d_core.models.zoo import resolve_weights
from r21d_core.runs.files import write_atomically

FORMATS = ("onnx", "pt2")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of a difference of logits, relative to the largest logit or, if that is smaller, to 1
METADATA = "metadata.json"  # the extra file of a .pt2
CHECKED_BATCHES = (1, 3)  # beside the batch of 2 that is traced
# How the clips of a video are cut, in words; names are keys of the metadata, `//` and `%` are Python's.
SAMPLING = {
    "clips": "clip i of eval_clips has the frames (start + j * frame_stride) % N, j = 0 … frames - 1, of a video of N; "
    "start is i * room // (eval_clips - 1), of a single clip room // 2; room is max(N - (frames - 1) * frame_stride "
    "- 1, 0). If frame_rate is not null, frame_stride is max(1, round(fps / frame_rate)) for a video of fps",
    "center_crop": "crop x crop pixels from row (frame_height - crop) // 2 and column (frame_width - crop) // 2",
    "averaging": "mean of softmax over the clips",
}
RESIZE = (
    "frame n is the n-th that the decoder outputs, as displayed, scaled by FFmpeg's (libswscale's) bilinear filter to "
    "frame_height x frame_width, whatever its aspect ratio, and converted to planar RGB (gbrp) in the same step; to "
    "packed RGB (rgb24) if it has that size already"
)


def export(weights: Path | str, format: str, out: Path | str | None = None, folder: Path | str = "weights") -> str:
    """Write the network of a run folder, a file, or a published name to `out`; return a line that describes the file.

    The default of `out` is exports/NAME.FORMAT. The file computes logits (N, classes) of clips (N, C, T, H, W) for any
    N, and carries the values of `metadata`: in ONNX as its metadata, each as JSON, in a .pt2 as the extra file
    metadata.json. Raises R21DError, and writes nothing, if its logits differ from the network's by more than TOLERANCE.

    For example:

        >>> from r21d_core.engine.export import export
        >>> print(export("runs/RUN", "pt2"))
        exports/RUN.pt2: R(2+1)D-10, clips (N, 3, 8, 32, 32), ... MB; largest difference from the network's logits ...
    """
    if format not in FORMATS:
        raise R21DError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    if format == "onnx" and (missing := [name for name in ONNX_PACKAGES if not find_spec(name)]):
        raise R21DError(
            f"ONNX needs {' and '.join(missing)}, not installed here: pip install {' '.join(ONNX_PACKAGES)}"
        )
    if out and Path(out).suffix != f".{format}":
        raise R21DError(f"{out}: expected a name that ends in .{format}")
    loaded = read_weights(resolve_weights(weights, folder))
    name = loaded.path.resolve().parent.name if loaded.spec else loaded.path.stem
    path = Path(out or Path("exports") / f"{name}.{format}")
    model, values = model_from_weights(loaded).eval(), metadata(loaded)
    shape = loaded.in_channels, values["frames"], values["crop"], values["crop"]
    program = torch.export.export(model, (torch.zeros(2, *shape),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    # In memory, as PyTorch aborts the process where a folder of temporary files is full.
    content, run = (_save_onnx if format == "onnx" else _save_pt2)(program, values)
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randn(count, *shape, generator=generator) for count in CHECKED_BATCHES]
    with torch.inference_mode():
        expected = torch.cat([model(batch) for batch in clips])
        difference = (torch.cat([run(batch) for batch in clips]) - expected).abs().max().item()
    largest = expected.abs().max().item()
    described = f"largest difference from the network's logits {difference:.1e}, where the largest is {largest:.2g}"
    if not difference <= TOLERANCE * max(1.0, largest):  # NaN too
        raise R21DError(f"{path}: not written, as its output differs from the network's: {described}")
    write_atomically(path, content)
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    return f"{path}: {values['network']}, clips (N, {', '.join(map(str, shape))}), {size}; {described}"


def metadata(weights: Weights) -> dict:
    """Return what a user of the exported file needs: classes, how clips are cut from a video, mean, std, origin."""
    spec, (names, _), row = spec_for_video(weights, None), class_names(weights), published_row(weights)
    mean, std = (MEAN, STD) if weights.in_channels == 3 else (FLOW_MEAN, FLOW_STD)
    kind, frame = "RGB from 0 to 1", RESIZE
    if weights.in_channels == 2:
        farneback = Farneback(spec.frame_height, spec.frame_width, spec.frame_stride)
        kind, frame = "optical flow in pixels, x and y", f"frame n is the n-th field of {farneback}"
    return {
        "network": f"{weights.variant}-{weights.depth}",
        "classes": list(names),
        "input": f"clips (N, C, T, H, W): {kind}, minus mean, divided by std",
        **{name: getattr(spec, name) for name in ("frames", "frame_stride", "frame_height", "frame_width", "crop")},
        "eval_clips": spec.eval_clips,
        "frame_rate": row.fps if row else None,
        "frame": frame,
        **SAMPLING,
        "mean": list(mean),
        "std": list(std),
        "weights_sha256": weights.sha256,
        "r21d": __version__,
    }


def _save_onnx(program: torch.export.ExportedProgram, values: dict) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """Return a program as the content of one ONNX file, and the function that ONNX Runtime reads from it."""
    import onnxruntime

    exported = torch.onnx.export(
        program, input_names=["clips"], output_names=["logits"], dynamic_shapes=({0: "batch"},), dynamo=True,
        verbose=False,
    )  # fmt: skip
    assert exported is not None
    exported.model.metadata_props.update({key: json.dumps(value) for key, value in values.items()})
    content = exported.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda clips: torch.from_numpy(session.run(["logits"], {"clips": clips.numpy()})[0])


def _save_pt2(program: torch.export.ExportedProgram, values: dict) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """Return a program as the content of a .pt2 file, and the function that PyTorch reads from it."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(values)})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")  # PyTorch 2.11's own reading of the file
        return file.getvalue(), torch.export.load(io.BytesIO(file.getvalue())).module()
