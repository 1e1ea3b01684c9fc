"""Text files of numbers, flags and names."""

import os

import pytest

from rgbt_fusion.files.text_tables import (
    DataError,
    natural_key,
    read_flags,
    read_names,
    read_numbers,
)


def test_natural_order():
    names = [
        "10.jpg",
        "9.jpg",
        "img2.png",
        "img10.png",
        "Img1.png",
        "a",
        "00009.jpg",
        "1_2.jpg",
        "1_10.jpg",
    ]
    ordered = sorted(names, key=natural_key)
    assert ordered == [
        "1_2.jpg",
        "1_10.jpg",
        "00009.jpg",
        "9.jpg",
        "10.jpg",
        "a",
        "Img1.png",
        "img2.png",
        "img10.png",
    ]


@pytest.mark.parametrize("text", ["1\n0\n1\n", "1 0 1", "1,0,1\n", "8\n0\n3"])
def test_flags_on_one_line_or_many(tmp_path, text):
    (tmp_path / "flags.txt").write_text(text)
    assert read_flags(tmp_path / "flags.txt").tolist() == [True, False, True]


def test_flags_must_be_one_row_or_column(tmp_path):
    (tmp_path / "flags.txt").write_text("1 0\n0 1\n")
    with pytest.raises(DataError, match="must hold one number a frame, got 2 on each of 2 lines"):
        read_flags(tmp_path / "flags.txt")


def test_names(tmp_path):
    (tmp_path / "list.txt").write_text("car \r\n\nboy`shead\n")
    assert read_names(tmp_path / "list.txt") == ("car", "boy`shead")


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", "a\\b"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    (tmp_path / "list.txt").write_text(f"car\n{name}\n")
    with pytest.raises(DataError, match="a sequence must be the name of a folder"):
        read_names(tmp_path / "list.txt")


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file or directory"):
        read_numbers(tmp_path / "gone.txt")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_numbers(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="must list sequences, but it is empty"):
        read_names(tmp_path / "empty.txt")


def test_a_file_far_too_large_is_not_read(tmp_path):
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="must be a text file of at most 256 MB, got 1048576 MB"):
        read_numbers(tmp_path / "huge.txt")


def test_pipes_and_devices_are_not_read(tmp_path):
    """A pipe that nobody writes into would be waited for, and /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", "/dev/zero", "/dev/null"):
        for read in (read_numbers, read_flags, read_names):
            with pytest.raises(DataError, match="must be a file, but it is a pipe or a device"):
                read(path)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "boxes.txt").write_bytes(b"1 2 3 4\n\0\0\0\0")
    with pytest.raises(DataError, match="must be a text file, but it holds binary data"):
        read_numbers(tmp_path / "boxes.txt")
    with pytest.raises(DataError, match=r"path must be the name of a file, got 'a\\x00b'"):
        read_numbers("a\0b")


def test_an_empty_line_between_rows_is_refused_since_later_rows_would_move_up(tmp_path):
    path = tmp_path / "boxes.txt"
    path.write_text("1,2,3,4\n5,6,7,8\n\n9,10,11,12\n")
    for read in (read_numbers, read_flags):
        with pytest.raises(DataError, match=r"boxes\.txt, line 3: must not be empty, as all later"):
            read(path)
    path.write_text("\n1,2,3,4\n5,6,7,8\n\n\n")
    assert len(read_numbers(path)) == 2
    # Windows line ends, written once more by a program
    path.write_bytes(b"1,2,3,4\r\r\n5,6,7,8\r\r\n9,10,11,12\r\r\n")
    assert len(read_numbers(path)) == 3
