"""Every kind of source gives the same pairs, and says in one sentence what is wrong with it."""

from typing import ClassVar

import numpy as np
import pytest

from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.video.sources import open_source
from video_material import cv2, split, write_images, write_video


@pytest.fixture(autouse=True)
def opencv():
    cv2()


def near(image: np.ndarray, expected: np.ndarray) -> bool:
    """Whether one is the other but for what a codec leaves out."""
    grey = image if image.ndim == 2 or expected.ndim == 3 else image[:, :, 0]
    return grey.shape == expected.shape and abs(grey.astype(int) - expected).mean() < 10


def test_two_folders(tmp_path):
    rgb, tir = split(dtype=np.uint16)
    source = open_source(write_images(tmp_path / "a", rgb), write_images(tmp_path / "b", tir))
    assert (source.name, source.length, source.fps, source.truth) == ("a", 5, None, None)
    for _ in range(2):
        for number, frame in enumerate(source):
            assert np.array_equal(frame.rgb, rgb[number])
            assert np.array_equal(frame.tir, tir[number])
            assert frame.tir.dtype == np.uint16


@pytest.mark.parametrize(("ending", "code"), [("avi", "MJPG"), ("mp4", "mp4v")])
def test_two_videos(tmp_path, ending, code):
    rgb, tir = split()
    source = open_source(
        write_video(tmp_path / f"a.{ending}", rgb, code=code),
        write_video(tmp_path / f"b.{ending}", tir, code=code),
    )
    assert (source.name, source.length, source.fps) == ("a", 5, 20.0)
    for _ in range(2):
        frames = list(source)
        assert len(frames) == 5
        for frame, colour, thermal in zip(frames, rgb, tir, strict=True):
            assert near(frame.rgb, colour)
            assert near(frame.tir, thermal)


def test_a_video_and_a_folder(tmp_path):
    rgb, tir = split()
    source = open_source(write_video(tmp_path / "a.avi", rgb), write_images(tmp_path / "b", tir))
    assert all(
        np.array_equal(frame.tir, thermal) for frame, thermal in zip(source, tir, strict=True)
    )


@pytest.mark.parametrize("arrangement", ["rgb-left", "rgb-right", "rgb-top", "rgb-bottom"])
def test_one_video_of_both(tmp_path, arrangement):
    rgb, tir = split()
    grey = [np.stack([thermal] * 3, axis=-1) for thermal in tir]
    halves = (rgb, grey) if arrangement in ("rgb-left", "rgb-top") else (grey, rgb)
    axis = 1 if arrangement in ("rgb-left", "rgb-right") else 0
    both = [np.concatenate(pair, axis=axis) for pair in zip(*halves, strict=True)]
    source = open_source(write_video(tmp_path / "both.avi", both), arrangement=arrangement)
    for frame, colour, thermal in zip(source, rgb, tir, strict=True):
        assert near(frame.rgb, colour)
        assert near(frame.tir, thermal)


def test_one_video_of_one(tmp_path):
    path = write_video(tmp_path / "a.avi", split()[0])
    rgb, tir = next(iter(open_source(path, arrangement="rgb-only")))
    assert rgb.shape == (120, 160, 3)
    assert tir is None
    rgb, tir = next(iter(open_source(path, arrangement="tir-only")))
    assert rgb is None
    assert tir.shape == (120, 160, 3)


def test_a_sequence_of_a_dataset(tmp_path):
    rgb, tir = split()
    write_images(tmp_path / "car" / "visible", rgb)
    write_images(tmp_path / "car" / "infrared", tir)
    for name in ("visible", "infrared"):
        (tmp_path / "car" / f"{name}.txt").write_text("1,2,30,40\n" * 5)
    source = open_source(tmp_path / "car", frames=3)
    assert (source.name, source.length, len(list(source))) == ("car", 3, 3)
    assert source.truth.rgb[0].tolist() == [1, 2, 30, 40]
    assert open_source(tmp_path / "car", layout="lasher").length == 5


def test_a_single_video_is_not_cut_in_half_unasked(tmp_path):
    path = write_video(tmp_path / "a.avi", split()[0])
    with pytest.raises(ValueError, match=r"arrangement must be given for one source, as .*a\.avi"):
        open_source(path)
    with pytest.raises(ValueError, match="arrangement must be given"):
        open_source(write_images(tmp_path / "a", split()[0]))


def test_a_folder_of_images_of_one_modality(tmp_path):
    folder = write_images(tmp_path / "a", split(dtype=np.uint16)[1])
    rgb, tir = next(iter(open_source(folder, arrangement="tir-only")))
    assert rgb is None
    assert tir is not None
    assert tir.dtype == np.uint16
    rgb, tir = next(iter(open_source(folder, arrangement="rgb-only")))
    assert tir is None


def test_an_option_that_does_not_apply_is_refused(tmp_path):
    rgb, tir = split()
    colour = write_images(tmp_path / "a", rgb)
    thermal = write_images(tmp_path / "b", tir)
    video = write_video(tmp_path / "a.avi", rgb)
    sequence = tmp_path / "car"
    write_images(sequence / "rgb", rgb)
    write_images(sequence / "lwir", tir)
    cases = [
        ((colour, thermal), {"arrangement": "tir-only"}, "arrangement must come with one source"),
        ((colour, thermal), {"layout": "lasher"}, "layout must come with the folder"),
        ((video,), {"layout": "lasher"}, "layout must come with the folder"),
        ((video,), {"delay": 1.0}, "delay must come with two videos"),
        ((colour, video), {"delay": 1.0}, "delay must come with two videos, which have time"),
        ((sequence,), {"arrangement": "rgb-left"}, "must be 'rgb-only' or 'tir-only' for"),
    ]
    for places, options, message in cases:
        with pytest.raises(ValueError, match=message):
            open_source(*places, **options)
    assert next(iter(open_source(sequence, arrangement="tir-only"))).rgb is None
    assert next(iter(open_source(sequence, arrangement="rgb-only"))).tir is None
    both = next(iter(open_source(sequence)))
    assert both.rgb is not None
    assert both.tir is not None


def test_what_is_missing_from_a_sequence_is_said(tmp_path):
    write_images(tmp_path / "car" / "rgb", split()[0])
    assert open_source(tmp_path / "car").notices == [
        f"{tmp_path / 'car'} holds colour images alone"
    ]
    assert open_source(tmp_path / "car", arrangement="rgb-only").notices == []


def write_deep_video(path, images):
    """Write thermal images of 16 bits losslessly."""
    cv = cv2()
    height, width = images[0].shape
    settings = [cv.VIDEOWRITER_PROP_DEPTH, cv.CV_16U, cv.VIDEOWRITER_PROP_IS_COLOR, 0]
    code = cv.VideoWriter.fourcc(*"FFV1")
    writer = cv.VideoWriter(str(path), cv.CAP_FFMPEG, code, 20.0, (width, height), settings)
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


def test_a_thermal_video_of_16_bits_keeps_them(tmp_path):
    rgb, tir = split(dtype=np.uint16)
    thermal = write_deep_video(tmp_path / "b.mkv", tir)
    for source in (
        open_source(write_images(tmp_path / "a", rgb), thermal),
        open_source(thermal, arrangement="tir-only"),
    ):
        for frame, expected in zip(source, tir, strict=True):
            assert frame.tir is not None
            assert frame.tir.dtype == np.uint16
            assert np.array_equal(frame.tir, expected)


@pytest.mark.parametrize(
    ("pixels", "bits"),
    [(b"Y1\x00\x0a", 10), (b"\x10\x001Y", 16), (b"Y3\x0b\x0a", 10), (b"I420", 8), (b"Y800", 8)],
)
def test_a_thermal_video_whose_bits_would_be_lost_is_refused(tmp_path, monkeypatch, pixels, bits):
    path = write_video(tmp_path / "a.avi", split()[1])
    tell(monkeypatch, CODEC_PIXEL_FORMAT=pixels)
    if bits == 8:
        assert open_source(path, arrangement="tir-only").length == 5
        return
    with pytest.raises(DataError, match=f"{bits} bits.*ffmpeg -i .*a.avi -c:v ffv1 -pix_fmt gray"):
        open_source(path, arrangement="tir-only")
    assert open_source(path, arrangement="rgb-only").length == 5


def test_raw_pixels_of_16_bits_that_nothing_describes_are_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.avi", split()[1])
    tell(monkeypatch, CODEC_PIXEL_FORMAT=b"RGB\x0f", FOURCC=bytes(4))
    with pytest.raises(DataError, match="raw pixels of 16 bits and does not say what they are"):
        open_source(path, arrangement="tir-only")
    assert open_source(path, arrangement="rgb-only").length == 5


def tell(monkeypatch, **codes: bytes) -> None:
    """Have OpenCV say these codes of any video."""
    told = {getattr(cv2(), f"CAP_PROP_{name}"): code for name, code in codes.items()}
    real = cv2().VideoCapture

    class Deep:
        def __init__(self, place) -> None:
            self.inner = real(place)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def get(self, what) -> float:
            if what in told:
                return float(int.from_bytes(told[what], "little"))
            return self.inner.get(what)

    monkeypatch.setattr(cv2(), "VideoCapture", Deep)


class Camera:
    """A camera that shows the scene as long as it is asked."""

    opened: ClassVar[list] = []

    def __init__(self, place) -> None:
        self.place, self.asked = place, 0
        self.images = (
            split()[0] if place == 0 else [np.stack([tir] * 3, axis=-1) for tir in split()[1]]
        )
        Camera.opened.append(self)

    def isOpened(self) -> bool:
        return self.place in (0, "rtsp://thermal")

    def get(self, what) -> float:
        return -1.0

    def grab(self) -> bool:
        self.asked += 1
        return True

    def retrieve(self):
        return True, self.images[(self.asked - 1) % 5][:, :, ::-1]

    def release(self) -> None:
        self.place = None


def test_two_cameras(monkeypatch):
    monkeypatch.setattr(cv2(), "VideoCapture", Camera)
    source = open_source("0", "rtsp://thermal", frames=7)
    assert (source.length, source.fps) == (7, None)
    frames = list(source)
    assert len(frames) == 7
    assert np.array_equal(frames[6].rgb, split()[0][1])
    assert np.array_equal(frames[6].tir[:, :, 0], split()[1][1])
    assert all(camera.place is None for camera in Camera.opened), "a camera was not given back"
    assert open_source("0", "rtsp://thermal").length is None
    with pytest.raises(
        DataError, match="camera 3 must be a camera that OpenCV can read, but cannot be opened"
    ):
        open_source("3", "0")


def test_an_odd_side_cannot_hold_two_images(monkeypatch):
    class Odd(Camera):
        def retrieve(self):
            return True, np.zeros((121, 159, 3), dtype=np.uint8)

    monkeypatch.setattr(cv2(), "VideoCapture", Odd)
    for arrangement, words in (
        ("rgb-left", "width to hold two images, got 159"),
        ("rgb-top", "height .* got 121"),
    ):
        with pytest.raises(DataError, match=f"camera 0 must be even in {words}"):
            next(iter(open_source("0", arrangement=arrangement)))


def test_counts_that_differ_are_refused_unless_the_rest_is_left_out(tmp_path):
    rgb, tir = split(6)
    places = write_images(tmp_path / "a", rgb), write_video(tmp_path / "b.avi", tir[:4])
    with pytest.raises(
        DataError,
        match=r"as many frames, got 6 in .*a and 4 in .*b.avi; frames = 4 takes the first",
    ):
        open_source(*places)
    with pytest.raises(DataError, match="as many frames"):
        open_source(*places, frames=5)
    assert len(list(open_source(*places, frames=4))) == 4


def test_a_video_that_ends_early_is_told(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.avi", split(8)[0])
    real = cv2().VideoCapture

    class CutOff:
        def __init__(self, place) -> None:
            self.inner, self.left = real(place), 3

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def grab(self) -> bool:
            self.left -= 1
            return self.left >= 0 and self.inner.grab()

    monkeypatch.setattr(cv2(), "VideoCapture", CutOff)
    source = open_source(path, arrangement="rgb-only")
    assert len(list(source)) == 3
    assert source.notices == [f"{path} ends after 3 of 8 frames: it may be cut off"]


@pytest.mark.parametrize("found", [True, False])
def test_a_frame_without_pixels_ends_the_pairs(tmp_path, monkeypatch, found):
    """FFmpeg's reader in OpenCV calls some of them found, and hands out nothing."""
    path = write_video(tmp_path / "a.avi", split(8)[0])
    real = cv2().VideoCapture

    class Blank:
        def __init__(self, place) -> None:
            self.inner, self.left = real(place), 3

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def retrieve(self):
            self.left -= 1
            return self.inner.retrieve() if self.left >= 0 else (found, None)

    monkeypatch.setattr(cv2(), "VideoCapture", Blank)
    for options in ({"arrangement": "rgb-only"}, {"tir": path}):
        source = open_source(path, **options)
        frames = list(source)
        assert 0 < len(frames) <= 3
        assert f"frame {len(frames) + 1} cannot be decoded" in source.notices[0]


def numbered(count, fps, path):
    """Write a video whose frames have the grey level of their time in hundredths of a second."""
    levels = [round(number * 100 / fps) for number in range(count)]
    return write_video(path, [np.full((32, 48, 3), level, np.uint8) for level in levels], fps=fps)


def levels_of(source):
    return [(int(frame.rgb.mean()), int(frame.tir.mean())) for frame in source]


def test_videos_of_different_rates_are_paired_by_time(tmp_path):
    slow = numbered(10, 10.0, tmp_path / "slow.avi")
    fast = numbered(30, 30.0, tmp_path / "fast.avi")
    for places in ((slow, fast), (fast, slow)):
        source = open_source(*places)
        pairs = levels_of(source)
        # nearest in time, and the last ones may lie up to one frame apart
        assert all(abs(rgb - tir) <= 6 for rgb, tir in pairs[:-2])
        assert len(pairs) == (10 if places[0] is slow else 30)
        assert "paired by time stamps" in source.notices[0]


def test_a_delay_shifts_the_thermal_video(tmp_path):
    early = numbered(20, 20.0, tmp_path / "early.avi")
    late = numbered(20, 20.0, tmp_path / "late.avi")
    behind = levels_of(open_source(early, late, delay=0.25))
    assert all(abs(tir - rgb - 25) <= 2 for rgb, tir in behind[:14])
    ahead = open_source(early, late, delay=-0.25)
    assert all(abs(tir - rgb + 25) <= 2 for rgb, tir in levels_of(ahead))
    assert "the first 5 frames" in ahead.notices[0]


def test_a_number_of_frames_that_is_only_estimated_is_not_believed(tmp_path, monkeypatch):
    rgb, tir = split(6)
    colour = write_video(tmp_path / "a.mkv", rgb)
    thermal = write_video(tmp_path / "b.mkv", tir)
    real = cv2().VideoCapture

    class Estimated:
        def __init__(self, place) -> None:
            self.inner = real(place)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def get(self, what) -> float:
            # a pause in the middle, times the mean rate
            return 180.0 if what == cv2().CAP_PROP_FRAME_COUNT else self.inner.get(what)

    monkeypatch.setattr(cv2(), "VideoCapture", Estimated)
    source = open_source(colour, thermal)
    assert (source.length, len(list(source)), source.notices) == (None, 6, [])


def test_a_video_that_ends_before_the_other_keeps_the_pairs(tmp_path):
    rgb, tir = split(6)
    source = open_source(
        write_video(tmp_path / "a.mkv", rgb), write_video(tmp_path / "b.mkv", tir[:4])
    )
    assert len(list(source)) == 4
    assert "b.mkv ends after 4 frames and" in source.notices[0]


def test_a_camera_that_stops_leaves_the_other_one(monkeypatch):
    class Stopping(Camera):
        def grab(self) -> bool:
            self.asked += 1
            return (self.place == 0 and self.asked <= 6) or self.asked <= 3

    monkeypatch.setattr(cv2(), "VideoCapture", Stopping)
    monkeypatch.setattr("rgbt_fusion.video.sources.REOPEN_AFTER_S", 3600.0)
    monkeypatch.setattr("rgbt_fusion.video.sources._CameraReader._open_again", lambda self: None)
    source = open_source("0", "rtsp://thermal")
    assert [frame.tir is None for frame in source] == [False] * 3 + [True] * 3
    assert source.live
    assert source.notices == [
        "rtsp://thermal gives no frame after 3: goes on with camera 0 alone",
        "camera 0 stops after 6 frames",
    ]


def test_a_camera_may_come_back(monkeypatch):
    class Hiccup(Camera):
        def grab(self) -> bool:
            self.asked += 1
            first_thermal = self.place != 0 and len(Camera.opened) <= 4
            return self.asked <= (2 if first_thermal else 400)

    class AtOnce:
        def __init__(self, *, target, daemon) -> None:
            self.start = target

        def is_alive(self) -> bool:
            return False

    Camera.opened.clear()
    monkeypatch.setattr(cv2(), "VideoCapture", Hiccup)
    monkeypatch.setattr("rgbt_fusion.video.sources.Thread", AtOnce)
    source = open_source("0", "rtsp://thermal", frames=9)
    assert [frame.tir is None for frame in source] == [False] * 2 + [True] * 2 + [False] * 5
    assert source.notices[1] == "rtsp://thermal is back at frame 5"


def test_a_damaged_image_is_named(tmp_path):
    rgb, tir = split()
    folder = write_images(tmp_path / "a", rgb)
    (folder / "frame10.png").write_bytes(b"no image")
    frames = iter(open_source(folder, write_images(tmp_path / "b", tir)))
    for _ in range(2):
        next(frames)
    with pytest.raises(DataError, match=r"frame10.png cannot be decoded"):
        next(frames)


def test_errors_say_what_was_wrong(tmp_path):
    rgb, _ = split(2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    images = write_images(tmp_path / "a", rgb)
    cases = [
        (
            (tmp_path / "absent.mp4",),
            "rgb must be a video, a folder of images or a camera, but .* does not exist",
        ),
        (
            (images, tmp_path / "absent"),
            "tir must be a video, a folder of images or a camera, but .* does not exist",
        ),
        (
            (tmp_path / "text.mp4",),
            "text.mp4 must be a video that OpenCV can read, but cannot be opened",
        ),
        ((images, tmp_path / "empty"), "must hold images, but is empty"),
        ((tmp_path / "empty",), "holds no complete sequence of any layout"),
    ]
    for places, message in cases:
        with pytest.raises(DataError, match=message):
            open_source(*places)
    with pytest.raises(ValueError, match="arrangement must be one of 'rgb-left'"):
        open_source(images, images, arrangement="left")
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        open_source(images, images, frames=0)
