"""Folders of images inside a sequence: found in any case, leftovers of archives passed."""

from rgbt_fusion.data.folders import first_folder, holds_images, is_left_over, unread_folders


def test_a_folder_is_found_in_any_case_and_one_of_exactly_the_name_first(tmp_path):
    for name in ("Thermal", "TIR"):
        (tmp_path / name).mkdir()
    (tmp_path / "rgb").touch()
    assert first_folder(tmp_path, ("thermal", "tir")) == tmp_path / "Thermal"
    assert first_folder(tmp_path, ("tir", "thermal")).name.lower() == "tir"
    assert first_folder(tmp_path, ("rgb", "v")) is None
    assert first_folder(tmp_path / "gone", ("rgb",)) is None


def test_folders_of_images_that_nobody_reads_are_listed(tmp_path):
    for name in ("rgb", "more", "__MACOSX", ".hidden", "texts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("a.txt" if name == "texts" else "a.png")).touch()
    assert unread_folders(tmp_path, (tmp_path / "rgb", None)) == ["more"]
    assert holds_images(tmp_path / "more")
    assert not holds_images(tmp_path / "texts")
    assert is_left_over(tmp_path / "__MACOSX")
