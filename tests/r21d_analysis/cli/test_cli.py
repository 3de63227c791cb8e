import resource

from r21d_core.cli import main


def test_report_names_an_impossible_runs_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["report", "--runs", str(tmp_path / "file")]) == 1
    assert "file/reports: no folder can be made here (Not a directory)" in capsys.readouterr().err


def test_notebooks_are_copied_but_never_overwritten(tmp_path, capsys):
    command = ["notebooks", "--out", str(tmp_path / "mine")]
    assert main(command) == 0
    assert (tmp_path / "mine" / "start_here.ipynb").is_file()
    assert f"notebooks in {tmp_path / 'mine'}" in capsys.readouterr().out
    assert main(command) == 1
    assert "exists; name another folder with --out" in capsys.readouterr().err


def test_full_disk_leaves_no_half_notebook(tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert main(["notebooks", "--out", str(tmp_path)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ".ipynb: could not be written (" in capsys.readouterr().err and not [*tmp_path.iterdir()]
