"""A conversation in the TraX protocol, as the reference client speaks, and what must end it."""

import io
from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.tracking.interface import TrackResult
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.tracking.trax import TraxError, format_message, parse_message, serve
from tracking_material import BOX, scene

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


class Recorder:
    """A tracker that keeps what it is shown and answers with a box that counts."""

    def __init__(self) -> None:
        self.shown = []
        self.boxes = []

    def init(self, rgb, tir, box_xywh_px):
        self.boxes.append(tuple(box_xywh_px))
        return self.update(rgb, tir)

    def update(self, rgb, tir):
        self.shown.append((rgb, tir))
        count = len(self.shown)
        return TrackResult(np.array([count, 2.0, 3.5, 4.0]), 1 / count, False, count - 1)


@pytest.fixture
def frames(tmp_path) -> list[str]:
    """Addresses of three pairs of images, as the arguments of a message."""
    arguments = []
    folder = tmp_path / 'it "is" a \\ folder'
    folder.mkdir()
    for k, (rgb, tir) in enumerate(scene(3)):
        paths = [folder / f"color {k}.png", folder / f"ir {k}.png"]
        cv2.imwrite(str(paths[0]), rgb[:, :, ::-1])
        cv2.imwrite(str(paths[1]), tir)
        words = [str(path).replace("\\", "\\\\").replace('"', '\\"') for path in paths]
        arguments.append(" ".join(f'"file://{word}"' for word in words))
    return arguments


def answers(requests: list[str], tracker=None, **options) -> list[str]:
    replies = io.StringIO()
    serve(tracker or Recorder(), [f"{line}\n" for line in requests], replies, **options)
    return replies.getvalue().splitlines()


def test_a_conversation(frames):
    tracker = Recorder()
    hello, *states = answers(
        [
            # bytes of the reference client: a blank before the end, properties behind the arguments
            f'@@TRAX:initialize {frames[0]} "70.0000,50.0000,24.0000,16.0000" "foo=b ar" ',
            "an ordinary line",
            f'@@TRAX:frame {frames[1]} "k=v" ',
            f"@@TRAX:frame {frames[2]} ",
            f'@@TRAX:initialize {frames[1]} "1.5,2,3,4" ',
            "@@TRAX:quit ",
            f"@@TRAX:frame {frames[2]} ",
        ],
        tracker,
        name="mine",
    )
    message = parse_message(hello)
    assert message.name == "hello"
    assert dict(word.split("=") for word in message.arguments) == {
        "trax.version": "3",
        "trax.name": "mine",
        "trax.image": "path;",
        "trax.region": "rectangle;",
        "trax.channels": "color;ir;",
    }
    assert states == [
        f'@@TRAX:state "{k}.0000,2.0000,3.5000,4.0000" "confidence={1 / k:.6f}"'
        for k in (1, 2, 3, 4)
    ]
    assert tracker.boxes == [(70, 50, 24, 16), (1.5, 2, 3, 4)]
    expected = scene(3)
    for (rgb, tir), k in zip(tracker.shown, (0, 1, 2, 1), strict=True):
        np.testing.assert_array_equal(rgb, expected[k][0])
        np.testing.assert_array_equal(tir, expected[k][1])


def test_a_tracker_follows_as_it_does_without_a_client(frames):
    region = ",".join(map(str, BOX))
    requests = [f'@@TRAX:initialize {frames[0]} "{region}"']
    requests += [f"@@TRAX:frame {frame}" for frame in frames[1:]]
    states = [parse_message(line) for line in answers(requests, NCCTracker())[1:]]
    boxes = [[float(word) for word in state.arguments[0].split(",")] for state in states]
    expected = [result.box_xywh_px for result in NCCTracker().track(scene(3), BOX)]
    np.testing.assert_allclose(boxes, expected, atol=5e-5)


@pytest.mark.parametrize(
    ("channels", "has_rgb", "has_tir"),
    [(("color",), True, False), (("ir",), False, True), (("depth",), False, True)],
)
def test_one_channel(frames, channels, has_rgb, has_tir):
    tracker = Recorder()
    first = frames[0].partition('" "')[0] + '"'
    answers([f'@@TRAX:initialize {first} "1,2,3,4"'], tracker, channels=channels)
    ((rgb, tir),) = tracker.shown
    assert (rgb is not None, tir is not None) == (has_rgb, has_tir)


@pytest.mark.parametrize("channels", [(), ("ir", "depth"), ("color", "color"), ("color", "x")])
def test_channels_that_are_none(channels):
    with pytest.raises(ValueError, match="channels must be"):
        answers([], channels=channels)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        (["@@TRAX:frame {0}"], "initialize must come before the first frame"),
        (["@@TRAX:hello"], "message must be initialize, frame or quit, got 'hello'"),
        (['@@TRAX:initialize "a.png"'], "must have an image for each of color, ir, got 1"),
        (["@@TRAX:initialize {0}"], "must have a region behind its images"),
        (['@@TRAX:initialize {0} "1,2,3"'], "region must be left,top,width,height, got '1,2,3'"),
        (['@@TRAX:initialize {0} "mask:1,2"'], "region must be left,top,width,height"),
        (['@@TRAX:initialize "open'], "arguments must be words or in double quotes"),
        (['@@TRAX:initialize "http://x/1.png" "b.png" "1,2,3,4"'], "image must be a path"),
        (['@@TRAX:initialize "ab:1.png" "b.png" "1,2,3,4"'], "image must be a path"),
        (['@@TRAX:initialize {0} "1,2,3,4"', '@@TRAX:frame "a b"'], "got 1 arguments"),
    ],
)
def test_what_the_protocol_does_not_allow_ends_it_with_a_reason(frames, requests, message):
    replies = io.StringIO()
    with pytest.raises(TraxError, match=message):
        serve(Recorder(), [line.format(frames[0]) for line in requests], replies)
    last = parse_message(replies.getvalue().splitlines()[-1])
    assert last.name == "quit"
    assert last.arguments[0].startswith("trax.reason=")


def test_an_image_that_cannot_be_read_is_told_to_the_client(tmp_path):
    replies = io.StringIO()
    missing = tmp_path / "none.png"
    request = f'@@TRAX:initialize "{missing}" "{missing}" "1,2,3,4"'
    with pytest.raises(DataError, match=r"none\.png"):
        serve(Recorder(), [request], replies)
    assert "none.png" in replies.getvalue().splitlines()[-1]


@pytest.mark.parametrize("text", ["plain", "with space", 'a "quote"', "back\\slash", "two\nlines"])
def test_escapes_come_back(text):
    line = format_message("quit", [text], {"trax.reason": text})
    assert line.count("\n") == 1
    assert parse_message(line) == ("quit", (text, f"trax.reason={text}"))


def test_a_key_that_is_none():
    with pytest.raises(ValueError, match="properties must have keys of"):
        format_message("state", (), {"a b": 1})


def test_paths_may_look_like_addresses_of_a_drive(tmp_path):
    assert not Path("c:/none.png").is_file()
    replies = io.StringIO()
    with pytest.raises(DataError, match=r"c:.none\.png"):
        serve(Recorder(), ['@@TRAX:initialize "c:/none.png" "1,2,3,4"'], replies, channels=["ir"])


def test_a_failure_without_words_is_told_by_its_class(frames):
    class Failing(Recorder):
        def init(self, rgb, tir, box_xywh_px):
            raise RuntimeError

    replies = io.StringIO()
    with pytest.raises(RuntimeError):
        serve(Failing(), [f'@@TRAX:initialize {frames[0]} "1,2,3,4"'], replies)
    last = parse_message(replies.getvalue().splitlines()[-1])
    assert last == ("quit", ("trax.reason=RuntimeError",))
