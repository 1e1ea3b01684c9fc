"""``rgbt-fusion distill``: a teacher on the command line."""

import pytest

from rgbt_fusion.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--teacher'"),
        (["--teacher", "absent.safetensors"], "absent.safetensors"),
        (["--teacher", "absent.safetensors", "--set", "layers=odd"], "layers must be one of"),
    ],
)
def test_a_wrong_call_ends_in_one_line_before_anything_is_written(
    capsys, tmp_path, arguments, message
):
    given = [
        "distill",
        "ainet_tiny_128_synthetic",
        "--out",
        str(tmp_path / "run"),
        "--data",
        "synthetic",
        *arguments,
    ]
    with pytest.raises(SystemExit) as left:
        main(given)
    written = capsys.readouterr()
    assert left.value.code == 2
    assert written.err.startswith("error: ")
    assert message in written.err
    assert written.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
