"""Published weights are found or their place is named, and a download keeps only a file of the right content."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.models import video

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.models import zoo
from r21d_core.models.cost import cost
from r21d_core.models.zoo import PUBLISHED, Published, download, kinetics400, resolve_weights
from tests.listings import official


def test_rows_are_what_torchvision_says():
    rows = {row.name: row for row in PUBLISHED}
    assert len(rows) == len(PUBLISHED) == len({row.file for row in PUBLISHED})
    for name, weights in (
        ("r3d_18", video.R3D_18_Weights.KINETICS400_V1),
        ("mc3_18", video.MC3_18_Weights.KINETICS400_V1),
        ("r2plus1d_18", video.R2Plus1D_18_Weights.KINETICS400_V1),
    ):
        assert rows[name].url == weights.url and rows[name].num_classes == len(weights.meta["categories"])
        assert f"`frame_rate={rows[name].fps}`" in weights.meta["_docs"]
        assert f"`clip_len={rows[name].frames}`" in weights.meta["_docs"]


def test_every_row_names_a_network_and_a_hash():
    for row in PUBLISHED:
        assert cost(row.variant, row.depth, frames=row.frames, num_classes=row.num_classes).parameters
        assert len(row.sha256) == 8 and int(row.sha256, 16) and row.file.endswith(f"-{row.sha256}.pth")


def test_kinetics_classes_are_in_the_order_of_the_alphabet():
    names = kinetics400()
    assert len(set(names)) == 400 and list(names) == sorted(names)


def test_kinetics_classes_are_those_of_the_official_list():
    assert list(kinetics400()) == (official("kinetics") / "label_map_k400.txt").read_text().splitlines()


def test_files_are_found_by_path_name_and_file_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = zoo.published("r3d_18")
    place = Path("weights") / row.file
    for name in ("r3d_18", row.file):
        with pytest.raises(R21DError) as raised:
            resolve_weights(name)
        said = str(raised.value)
        assert said.startswith(f"{place}: no such file; run `r21d weights r3d_18 --download`")
        assert row.url in said and row.sha256 in said
    with pytest.raises(R21DError, match=r"^elsewhere/r3d_18-b3b3357e\.pth: no such file"):
        resolve_weights(f"elsewhere/{row.file}")
    place.parent.mkdir()
    place.touch()
    assert resolve_weights("r3d_18") == resolve_weights(row.file) == resolve_weights(str(place)) == place


def test_a_notebook_finds_what_was_fetched_beside_its_folder(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    row, above = zoo.published("r3d_18"), tmp_path / "weights"
    with pytest.raises(R21DError, match=rf"^weights/{row.file}: no such file"):
        resolve_weights("r3d_18")
    above.mkdir()
    (above / row.file).touch()
    assert resolve_weights("r3d_18").resolve() == resolve_weights("r3d_18", above) == above / row.file
    with pytest.raises(R21DError, match=r"^elsewhere/"):
        resolve_weights(f"elsewhere/{row.file}")


def test_a_run_folder_means_its_checkpoint(tmp_path):
    with pytest.raises(R21DError, match=r"checkpoint\.pt: no such file; name a run folder that still has"):
        resolve_weights(tmp_path)
    (tmp_path / "checkpoint.pt").touch()
    assert resolve_weights(tmp_path) == tmp_path / "checkpoint.pt"


@pytest.mark.parametrize(
    ("name", "hint"), [("r2plus1d_81", "did you mean r2plus1d_18?"), ("runs/nope", "expected one of r3d_18")]
)
def test_a_name_that_nobody_published(name, hint):
    with pytest.raises(
        R21DError, match=f"^{name}: neither an existing file or run folder nor the name of published .*; {hint}"
    ):
        resolve_weights(name)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A row of the table that is served from here, its content, and a way to make the server send something else."""
    content = b"weights, as far as the download is concerned" * 1000
    name = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / name).write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served")) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{http.server_port}/{name}"
        row = Published("tiny", url, "R3D", 18, 16, 400, "nothing", "none")
        monkeypatch.setattr(zoo, "PUBLISHED", (row,))
        yield tmp_path / "served" / name, content
        http.shutdown()


def test_download_fetches_once(server, tmp_path, capfd):
    source, content = server
    path = download("tiny", tmp_path / "weights")
    assert path == tmp_path / "weights" / source.name and path.read_bytes() == content
    source.unlink()
    assert download("tiny", tmp_path / "weights") == path == resolve_weights("tiny", tmp_path / "weights")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda source: source.unlink(), "download failed .*404"),
        (lambda source: source.write_bytes(b"another file"), "download failed .*invalid hash value"),
    ],
)
def test_download_that_fails_leaves_nothing_and_says_what_to_do(server, harm, says, tmp_path, capfd):
    source, _ = server
    harm(source)
    with pytest.raises(R21DError, match=says) as raised:
        download("tiny", tmp_path / "weights")
    assert f"and put it at {tmp_path / 'weights' / source.name}" in str(raised.value)
    assert list((tmp_path / "weights").iterdir()) == []


def test_failed_download_names_the_url(tmp_path, monkeypatch):
    url = "http://127.0.0.1:1/tiny-00000000.pth"
    monkeypatch.setattr(zoo, "PUBLISHED", (Published("tiny", url, "R3D", 18, 16, 400, "", ""),))
    with pytest.raises(R21DError, match=r"refused.*; download http://127\.0\.0\.1:1/tiny-00000000\.pth yourself"):
        download("tiny", tmp_path)


def test_weights_command_lists_describes_and_downloads(server, tmp_path, monkeypatch, capfd):
    source, _ = server
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()  # a published name is one, whatever else has it
    folder = ["--cache-dir", str(tmp_path / "weights")]
    assert main(["weights", *folder]) == 0
    assert capfd.readouterr().out.splitlines()[1].split()[-1] == "none"
    assert main(["weights", "tiny", *folder]) == 0
    assert "none; run `r21d weights tiny --download`" in capfd.readouterr().out
    assert main(["weights", "tiny", "--download", *folder]) == 0
    assert f"local file  {tmp_path / 'weights' / source.name}" in capfd.readouterr().out
    assert main(["weights", *folder]) == 0
    assert source.name in capfd.readouterr().out.splitlines()[1]
    assert main(["weights", "--download", *folder]) == 1
    assert "name which" in capfd.readouterr().err
