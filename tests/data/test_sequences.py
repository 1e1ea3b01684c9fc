"""Sequences in every layout, real ones among them, and counts that do not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.data.annotations import read_attributes, read_ground_truth
from rgbt_fusion.data.checking import check_dataset, guess_layout
from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.data.sequences import open_dataset, open_sequence, read_sizes
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.reading import read_depth
from shared_material import shared

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


def images(folder: Path, names: list[str], *, deep: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        plane = np.full((24, 32), 100 * k if deep else k, dtype=np.uint16 if deep else np.uint8)
        cv2.imwrite(str(folder / name), plane)


def boxes(path: Path, count: int) -> None:
    np.savetxt(path, np.tile([3.0, 4, 5, 6], (count, 1)), delimiter=",")


def build(root: Path, layout: str, count: int = 12, name: str = "car") -> Path:
    """Write a sequence in a layout."""
    row, folder = LAYOUTS[layout].of(name), root / name
    if row.views:
        folder = folder / f"{row.views[0]}1"
    if row.rgb:
        images(folder / row.rgb[0], [f"{k}.png" for k in range(count)], deep=row.rgb_is_depth)
    if row.tir:
        images(
            folder / row.tir[0], [f"t{k:04d}.png" for k in range(count)], deep=row.kind == "depth"
        )
    annotated = (count + row.annotated_every - 1) // row.annotated_every
    for file in (*row.truth[:1], *row.truth_tir[:1]):
        if file.endswith(".json"):
            (folder / file).write_text(json.dumps({"gt_rect": [[3, 4, 5, 6]] * annotated}))
        else:
            boxes(folder / file, annotated)
    if row.truth_folder:
        (root.parent / row.truth_folder).mkdir(exist_ok=True)
        boxes(root.parent / row.truth_folder / f"{name}.txt", annotated)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path, layout):
    folder = build(tmp_path, layout)
    sequence = open_sequence(folder, layout)
    name = "car.ground_view1" if LAYOUTS[layout].views else "car"
    assert (sequence.name, len(sequence), sequence.size) == (name, 12, (32, 24))
    # images are sorted naturally: 2 before 10
    if LAYOUTS[layout].rgb_is_depth:
        assert all(frame.rgb.shape == (24, 32, 3) for frame in sequence)
        assert (sequence[11].rgb == read_depth(folder / "depth" / "11.png")).all()
    elif LAYOUTS[layout].rgb:
        assert [frame.rgb[0, 0, 0] for frame in sequence] == list(range(12))
    else:
        assert all(frame.rgb is None for frame in sequence)
    if LAYOUTS[layout].tir:
        tir = sequence[11].tir
        assert tir is not None
        assert tir.shape == ((24, 32, 3) if LAYOUTS[layout].kind == "depth" else (24, 32))
    assert sequence.truth is not None
    found = open_dataset(tmp_path, layout)
    assert [one.name for one in found.sequences] == [name]
    assert read_sizes(tmp_path, layout, [name]) == {name: (32, 24)}
    assert check_dataset(tmp_path, layout).ok


def test_sixteen_bits_stay(tmp_path):
    folder = build(tmp_path, "lasher")
    images(folder / "infrared", [f"t{k:04d}.png" for k in range(12)], deep=True)
    tir = open_sequence(folder, "lasher")[11].tir
    assert tir is not None
    assert (tir.dtype, tir.max()) == (np.uint16, 1100)


def test_names_need_not_agree_between_modalities(tmp_path):
    folder = tmp_path / "car"
    images(folder / "visible", ["v1.png", "v2.png", "v10.png"])
    images(folder / "infrared", ["i000.png", "i5.png", "i0007.png"])
    boxes(folder / "init.txt", 3)
    sequence = open_sequence(folder, "lasher")
    assert [path.name for path in sequence.rgb] == ["v1.png", "v2.png", "v10.png"]
    assert [path.name for path in sequence.tir] == ["i000.png", "i5.png", "i0007.png"]


def test_files_that_are_no_images_are_ignored(tmp_path):
    folder = build(tmp_path, "lasher")
    for name in ("Thumbs.db", ".DS_Store", "._3.png", "list.txt"):
        (folder / "visible" / name).write_bytes(b"x")
    assert len(open_sequence(folder, "lasher")) == 12


def test_images_beyond_the_annotation_are_left_out_with_a_notice(tmp_path):
    folder = build(tmp_path, "rgbt210")
    boxes(folder / "init.txt", 10)
    sequence = open_sequence(folder, "rgbt210")
    assert len(sequence) == 10
    assert sequence.notices[0] == "2 images of visible beyond the last annotated one are left out"


def test_what_was_not_asked_for_is_not_told(tmp_path):
    folder = build(tmp_path, "lasher")
    (folder / "extra").mkdir()
    shutil.copy(next((folder / "visible").iterdir()), folder / "extra")
    (notice,) = open_sequence(folder, "lasher").notices
    assert notice.startswith("images in extra are not read")
    assert open_sequence(folder, "lasher", modality="rgb").notices == ()


@pytest.mark.parametrize("folder", ["visible", "infrared"])
def test_too_few_images_are_refused(tmp_path, folder):
    (next((build(tmp_path, "lasher") / folder).glob("*3.png"))).unlink()
    with pytest.raises(
        DataError, match=f"{folder} must hold an image for each of 12 annotations, got 11"
    ):
        open_sequence(tmp_path / "car", "lasher")


def test_a_sequence_that_ends_before_its_first_annotation_has_no_image(tmp_path):
    """The first box of David in OTB is that of image 300."""
    folder = tmp_path / "David"
    (folder / "img").mkdir(parents=True)
    for number in range(10):
        cv2.imwrite(str(folder / "img" / f"{number:04}.jpg"), np.zeros((4, 6, 3), np.uint8))
    boxes(folder / "groundtruth_rect.txt", 1)
    with pytest.raises(DataError, match="must hold an image for each of 1 annotations, got 0"):
        open_sequence(folder, "otb100")


def test_a_broken_sequence_is_reported_and_the_rest_goes_on(tmp_path):
    for name in ("a", "b", "c", "d"):
        build(tmp_path, "lasher", name=name)
    (tmp_path / "b" / "init.txt").write_text("1,2,3\n")
    for path in (tmp_path / "c" / "infrared").iterdir():
        path.unlink()
    reported: list[str] = []
    found = open_dataset(tmp_path, "lasher", on_refusal=lambda name, _: reported.append(name))
    assert [sequence.name for sequence in found.sequences] == ["a", "d"]
    assert reported == ["b", "c"]
    assert "init.txt, line 1: must have 4 or 8 numbers, got 3" in found.refused["b"]
    assert "infrared must hold images, but is empty" in found.refused["c"]


def test_a_damaged_image_is_met_when_it_is_read(tmp_path):
    folder = build(tmp_path, "lasher")
    (folder / "visible" / "5.png").write_bytes(b"damaged")
    sequence = open_sequence(folder, "lasher")
    assert sequence[4].rgb.shape == (24, 32, 3)
    with pytest.raises(DataError, match=r"5.png cannot be decoded"):
        sequence[5]


def test_plain_folders_with_and_without_boxes(tmp_path):
    images(tmp_path / "mine" / "rgb", ["1.png", "2.png"])
    images(tmp_path / "mine" / "thermal", ["a.png", "b.png"])
    sequence = open_sequence(tmp_path / "mine")
    assert (len(sequence), sequence.truth, sequence.kind) == (2, None, "thermal")
    boxes(tmp_path / "mine" / "init.txt", 2)
    assert open_sequence(tmp_path / "mine").truth is not None
    images(tmp_path / "only" / "rgb", ["1.png"])
    assert open_sequence(tmp_path / "only")[0].tir is None
    images(tmp_path / "odd" / "rgb", ["1.png"])
    images(tmp_path / "odd" / "depth", ["1.png", "2.png"])
    with pytest.raises(DataError, match="as many images of both modalities, got 1 and 2"):
        open_sequence(tmp_path / "odd")


@pytest.mark.parametrize(
    ("rgb", "tir"),
    [
        *(("rgb", "lwir"), ("RGB", "Thermal"), ("rgb", "nir"), ("rgb", "th"), ("vi", "ir")),
        *(("vis_img", "ir_img"), ("V", "T"), ("Visible", "Infrared"), ("RGB", "thermal_8_bit")),
    ],
)
def test_the_second_modality_is_found_under_its_usual_names_in_any_case(tmp_path, rgb, tir):
    images(tmp_path / "mine" / rgb, ["1.png"])
    images(tmp_path / "mine" / tir, ["1.png"])
    frame = open_sequence(tmp_path / "mine", guess_layout(tmp_path / "mine"))[0]
    assert frame.rgb is not None
    assert frame.tir is not None


def test_images_of_an_unknown_modality_are_not_left_out_silently(tmp_path):
    images(tmp_path / "mine" / "rgb", ["1.png"])
    images(tmp_path / "mine" / "waerme", ["1.png"])
    with pytest.raises(DataError, match="holds images in waerme beside rgb, and no name says"):
        open_sequence(tmp_path / "mine")
    images(tmp_path / "mine" / "tir", ["1.png"])
    assert open_sequence(tmp_path / "mine").notices == (
        "images in waerme are not read: plain folder has none there",
    )
    images(tmp_path / "other" / "00", ["1.png"])
    images(tmp_path / "other" / "01", ["1.png"])
    with pytest.raises(DataError, match="holds images in 00, 01, and no name says"):
        guess_layout(tmp_path / "other")


def test_a_layout_of_colour_alone_does_not_hide_thermal_images(tmp_path):
    folder = build(tmp_path, "otb100")
    assert guess_layout(folder) == "otb100"
    images(folder / "ir", [f"{k}.png" for k in range(12)])
    assert guess_layout(folder) == "folder"
    assert open_sequence(folder)[0].tir is not None
    assert "images in ir are not read" in open_sequence(folder, "otb100").notices[0]


def test_a_sequence_of_thermal_images_alone(tmp_path):
    folder = tmp_path / "mine"
    images(folder / "tir", ["1.png", "2.png"], deep=True)
    boxes(folder / "tir.txt", 2)
    assert guess_layout(tmp_path) == "folder"
    sequence = open_dataset(tmp_path, "folder").sequences[0]
    assert (len(sequence), sequence.size) == (2, (32, 24))
    assert sequence[1].rgb is None
    assert sequence[1].tir is not None
    assert sequence[1].tir.dtype == np.uint16
    assert sequence.truth is not None
    assert read_sizes(tmp_path, "folder", ["mine"]) == {"mine": (32, 24)}


def test_one_modality_of_two_is_opened_with_its_own_boxes(tmp_path):
    folder = build(tmp_path, "rgbt234")
    np.savetxt(folder / "infrared.txt", np.tile([7.0, 4, 5, 6], (12, 1)), delimiter=",")
    thermal = open_sequence(folder, "rgbt234", modality="tir")
    assert thermal[0].rgb is None
    assert thermal.truth is not None
    assert thermal.truth.rgb[0].tolist() == [7, 4, 5, 6]
    assert [file.name for file in thermal.truth.files] == ["infrared.txt"]
    assert open_sequence(folder, "rgbt234", modality="rgb")[0].tir is None
    # one file for both
    shared_boxes = build(tmp_path, "lasher", name="together")
    (file,) = open_sequence(shared_boxes, "lasher").truth.files
    assert open_sequence(shared_boxes, "lasher", modality="tir").truth.files == (file,)
    assert open_sequence(folder, "rgbt234", modality="rgb")[0].tir is None
    unnamed = build(tmp_path, "otb100", name="lsotb")
    assert open_sequence(unnamed, "otb100", modality="tir")[0].tir is not None
    with pytest.raises(ValueError, match="modality must be one of 'both', 'rgb', 'tir'"):
        open_sequence(folder, "rgbt234", modality="thermal")  # pyright: ignore[reportArgumentType]


def test_numbers_in_names_that_do_not_belong_together_are_noticed(tmp_path):
    images(tmp_path / "mine" / "rgb", ["1.png", "2.png", "3.png", "4.png"])
    images(tmp_path / "mine" / "tir", ["1.png", "2.png", "4.png", "5.png"])
    notices = open_sequence(tmp_path / "mine").notices
    assert notices[0].startswith("from frame 3 on, 3.png is paired with 4.png")


def test_four_corners_beside_a_plain_folder(tmp_path):
    images(tmp_path / "mine" / "color", ["1.png"])
    images(tmp_path / "mine" / "ir", ["1.png"])
    (tmp_path / "mine" / "groundtruth.txt").write_text("1,2,11,2,11,22,1,22\n")
    truth = open_sequence(tmp_path / "mine").truth
    assert truth is not None
    assert truth.rgb.tolist() == [[1, 2, 10, 20]]


def test_a_plain_folder_of_depth_is_painted(tmp_path):
    images(tmp_path / "mine" / "rgb", ["1.png"])
    images(tmp_path / "mine" / "depth", ["1.png"], deep=True)
    tir = open_sequence(tmp_path / "mine")[0].tir
    assert tir is not None
    assert (tir.dtype, tir.shape) == (np.uint8, (24, 32, 3))


def vtuav(root: Path, numbers: list[int], annotated: int) -> Path:
    folder = root / "test_ST_001" / "bus"
    for name in ("rgb", "ir"):
        images(folder / name, [f"{number:06d}.png" for number in numbers])
        boxes(folder / f"{name}.txt", annotated)
    return folder


def test_vtuav_without_its_table_starts_at_the_first_image_and_says_so(tmp_path):
    vtuav(tmp_path, list(range(3, 28)), 3)
    (sequence,) = open_dataset(tmp_path, "vtuav_st").sequences
    assert sequence.truth is not None
    assert sequence.truth.frames.tolist() == [0, 10, 20]
    assert "init_frame.npy is not there" in sequence.notices[0]
    assert len(sequence) == 25


def test_vtuav_with_its_table_starts_where_that_says(tmp_path):
    np.save(tmp_path / "init_frame.npy", np.array({"bus": 4}, dtype=object), allow_pickle=True)
    vtuav(tmp_path, list(range(25)), 3)
    (sequence,) = open_dataset(tmp_path, "vtuav_st").sequences
    assert sequence.truth is not None
    assert sequence.truth.frames.tolist() == [0, 10, 20]
    assert (len(sequence), sequence.rgb[0].name, sequence.tir[0].name) == (
        21,
        "000004.png",
        "000004.png",
    )
    assert sequence.notices == ("4 images before the first annotated one are left out",)
    # the same rows of a result are scored where only the annotations are read
    assert read_ground_truth(tmp_path, "vtuav_st")["bus"].frames.tolist() == [0, 10, 20]


def test_vtuav_with_an_annotated_image_missing(tmp_path):
    vtuav(tmp_path, [number for number in range(25) if number != 10], 3)
    assert (
        "the annotated image number 10 is missing (1 are)"
        in open_dataset(tmp_path, "vtuav_st").refused["bus"]
    )


def test_visevent_leaves_out_what_comes_before_the_target(tmp_path):
    folder = build(tmp_path, "visevent")
    (folder / "absent_label.txt").write_text("0\n0\n" + "1\n" * 10)
    sequence = open_sequence(folder, "visevent")
    assert len(sequence) == 10
    assert sequence[0].rgb[0, 0, 0] == 2


def test_real_sequences():
    dataset = open_dataset(shared("data/sequences"), "rgbt234")
    assert {one.name: len(one) for one in dataset.sequences} == {
        "pan_cyclist": 60,
        "paste_ped_dark": 60,
        "tno_nato_a": 10,
        "tno_tree": 8,
    }
    assert not dataset.refused
    for sequence in dataset.sequences:
        frame = sequence[0]
        assert frame.tir is not None
        assert frame.rgb.shape[:2] == frame.tir.shape[:2] == sequence.size[::-1]
        assert sequence.truth is not None


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match="folder must be that of a sequence"):
        open_sequence(tmp_path / "gone")
    (tmp_path / "car").mkdir()
    with pytest.raises(DataError, match=r"must hold sequences in the layout of LasHeR"):
        open_sequence(tmp_path / "car", "lasher")


def test_modalities_of_unlike_size_keep_their_own_boxes(tmp_path):
    folder = build(tmp_path, "muart244")
    for k in range(12):
        cv2.imwrite(str(folder / "infrared" / f"t{k:04d}.png"), np.zeros((12, 16), np.uint8))
    np.savetxt(folder / "infrared.txt", np.tile([1.0, 2, 3, 4], (12, 1)), delimiter=",")
    sequence = open_sequence(folder, "muart244")
    assert sequence[0].rgb.shape[:2] == (24, 32)
    assert sequence[0].tir.shape == (12, 16)
    assert sequence.truth.rgb[0].tolist() == [3, 4, 5, 6]
    assert sequence.truth.tir[0].tolist() == [1, 2, 3, 4]
    notices = [one.message for one in check_dataset(tmp_path, "muart244").problems]
    assert notices == ["colour images are 32x24, those of the second modality 16x12"]


def test_views_of_one_target_are_sequences_of_their_own(tmp_path):
    build(tmp_path, "drgbt1k")
    for view in ("uav_view1", "another"):
        images(tmp_path / "car" / view / "RGB", ["1.png", "2.png"])
        images(tmp_path / "car" / view / "TIR", ["1.png", "2.png"])
        boxes(tmp_path / "car" / view / "init.txt", 2)
    for name in ("challenges", "modality", "platforms"):
        (tmp_path / "car" / f"{name}.txt").write_text("1\n0\n")
    found = open_dataset(tmp_path, "drgbt1k")
    assert [(one.name, len(one)) for one in found.sequences] == [
        ("car.ground_view1", 12),
        ("car.uav_view1", 2),
    ]
    assert guess_layout(tmp_path) == "drgbt1k"


@pytest.mark.parametrize(
    ("folders", "boxes_in"),
    [
        (("visible", "infrared"), ("visible.txt", "infrared.txt")),
        (("color", "infrared"), ("ER_Cat_Lawn0_1.txt",)),
    ],
)
def test_mv_rgbt_says_in_names_which_modality_is_extreme(tmp_path, folders, boxes_in):
    for name in ("ER_Cat_Lawn0", "ET_Fish_River"):
        for folder in folders:
            images(tmp_path / name / folder, ["1.png", "2.png"])
        for file in boxes_in:
            boxes(tmp_path / name / file.replace("ER_Cat_Lawn0", name), 2)
    assert guess_layout(tmp_path) == "mv_rgbt"
    assert [len(one) for one in open_dataset(tmp_path, "mv_rgbt").sequences] == [2, 2]
    attributes = read_attributes(tmp_path, "mv_rgbt", ["ER_Cat_Lawn0", "ET_Fish_River"])
    assert attributes == {"ER": ("ER_Cat_Lawn0",), "ET": ("ET_Fish_River",)}
    # other names are not those of this benchmark
    (tmp_path / "ER_Cat_Lawn0").rename(tmp_path / "car")
    (tmp_path / "ET_Fish_River").rename(tmp_path / "dog")
    if folders[0] == "visible":
        assert guess_layout(tmp_path) == "rgbt234"


@pytest.mark.parametrize("layout", ["luart", "drgbt603"])
def test_newer_layouts_are_found_out(tmp_path, layout):
    build(tmp_path, layout)
    assert guess_layout(tmp_path) == layout


def test_attributes_of_a_toolkit_two_folders_above_the_boxes(tmp_path):
    (tmp_path / "annos" / "visible").mkdir(parents=True)
    boxes(tmp_path / "annos" / "visible" / "e-bike_01.txt", 3)
    (tmp_path / "AttriSeqsTxt").mkdir()
    flags = ["1", *["0"] * 41, "1"]
    (tmp_path / "AttriSeqsTxt" / "e-bike_01.txt").write_text(" ".join(flags) + "\n")
    root = tmp_path / "annos" / "visible"
    assert list(read_ground_truth(root, "muart244")) == ["e-bike_01"]
    found = read_attributes(root, "muart244", ["e-bike_01"])
    assert [name for name, having in found.items() if having] == ["NO", "AREA8"]
