"""The page over plain HTTP: what it serves, to whom, and which boxes it takes."""

import http.client
import json
import socket
from contextlib import contextmanager
from queue import Queue
from threading import Thread
from urllib.parse import urlsplit

import numpy as np
import pytest

from rgbt_fusion.alignment.known import alignment_from_points
from rgbt_fusion.video.pick import pick_alignment, pick_target
from video_material import cv2

RGB, TIR = np.zeros((60, 80, 3), dtype=np.uint8), np.zeros((60, 80), dtype=np.uint16)


@contextmanager
def picking(rgb=RGB, tir=TIR, *, pick=pick_target, end=("box", [1, 2, 30, 40]), **options):
    """A page that waits for a box: its address, and where what was picked arrives."""
    cv2()
    addresses, boxes = Queue(), Queue()
    thread = Thread(
        target=lambda: boxes.put(pick(rgb, tir, announce=addresses.put, **options)), daemon=True
    )
    thread.start()
    url = urlsplit(addresses.get(timeout=20))
    yield url, boxes
    if thread.is_alive():
        ask(url, end[0], "POST", end[1])
    thread.join(timeout=20)
    assert not thread.is_alive()


def ask(
    url,
    name: str,
    method: str = "GET",
    box=None,
    *,
    path: str | None = None,
    body: bytes = b"",
    **headers,
):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    connection.request(
        method, (path or url.path) + name, body or (json.dumps(box) if box else None), headers
    )
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.headers)
    connection.close()
    return found


def test_a_box_is_picked_and_the_page_is_gone():
    with picking() as (url, boxes):
        assert url.hostname == "127.0.0.1"
        status, page, headers = ask(url, "")
        assert status == 200
        assert b"Draw a box around the target" in page
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        for name in ("rgb.png", "tir.png"):
            status, picture, _ = ask(url, name)
            assert status == 200
            assert cv2().imdecode(np.frombuffer(picture, np.uint8), 1).shape == (60, 80, 3)
        assert ask(url, "box", "POST", [10, 20.5, 30, 15])[0] == 200
        assert boxes.get(timeout=20) == ((10.0, 20.5, 30.0, 15.0), None)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port), timeout=5)


def test_a_missing_modality_has_no_picture():
    with picking(rgb=None) as (url, _):
        assert ask(url, "rgb.png")[0] == 404
        assert ask(url, "tir.png")[0] == 200


def test_nobody_else_is_answered():
    with picking() as (url, boxes):
        for path in ("/", "/wrong/", "//", url.path[:-2] + "/"):
            assert ask(url, "", path=path)[0] == 404
            assert ask(url, "box", "POST", [1, 2, 30, 40], path=path)[0] == 404
        assert ask(url, "../../etc/passwd")[0] == 404
        # a page of another site, whose name was made to lead here
        assert ask(url, "", Host="example.org")[0] == 404
        assert boxes.empty()


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([1, 2, 0, 4], "some width and height"),
        ([1, 2, 3], "some width and height"),
        ([1, 2, None, 4], "some width and height"),
        ({"x": 1}, "some width and height"),
        ([1, 2, 1, 40], "at least 2 pixels wide and high, but is 1 x 40"),
        ([100, 2, 10, 10], "must lie in the frame of 80 x 60 pixels"),
    ],
)
def test_a_box_that_is_none_is_refused_and_asked_for_again(box, message):
    with picking() as (url, boxes):
        status, answer, _ = ask(url, "box", "POST", box)
        assert (status, boxes.empty()) == (400, True)
        assert message in answer.decode()


def test_what_is_no_box_at_all_is_refused():
    with picking() as (url, boxes):
        assert ask(url, "box", "POST", body=b"not json")[0] == 400
        assert ask(url, "box", "POST", body=b"1" * 5000)[0] == 400
        assert boxes.empty()


def test_without_a_frame_there_is_nothing_to_pick_from():
    with pytest.raises(ValueError, match="must not both be missing"):
        pick_target(None, None, announce=print)


SEEN = [[10, 8], [70, 9], [66, 50], [9, 52]]
THERE = [[4.0, 5.0], [33.0, 6.0], [31.5, 26.0], [3.0, 27.0]]
SMALL = np.arange(30 * 40, dtype=np.uint8).reshape(30, 40)


def test_four_pairs_of_points_lay_the_pictures_on_each_other():
    expected = alignment_from_points(SEEN, THERE, size=(80, 60), tir_size=(40, 30))
    with picking(tir=SMALL) as (url, picked):
        settings = json.loads(ask(url, "settings.json")[1])
        assert settings == {"box": True, "points": True, "fewest": 4, "aligned": False}
        status, answer, _ = ask(url, "box", "POST", [10, 20, 30, 15])
        assert status == 400
        assert b"differ in size, 80 x 60 and 40 x 30: click 4 pairs of points first" in answer
        status, answer, _ = ask(url, "points", "POST", [SEEN, THERE])
        assert (status, answer) == (200, b"Laid on each other by 4 pairs of points.")
        # the thermal picture is now as the colour camera would see it
        shown = cv2().imdecode(np.frombuffer(ask(url, "tir.png?1")[1], np.uint8), 0)
        assert shown.shape == (60, 80)
        for (x, y), (u, v) in zip(SEEN, THERE, strict=True):
            assert abs(int(shown[y, x]) - float(SMALL[round(v), round(u)])) < 25
        assert ask(url, "box", "POST", [10, 20, 30, 15])[0] == 200
        box, alignment = picked.get(timeout=20)
    assert box == (10.0, 20.0, 30.0, 15.0)
    np.testing.assert_allclose(alignment.tir_from_rgb, expected.tir_from_rgb)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([SEEN[:3], THERE[:3]], "K at least 4, got (3, 2)"),
        ([SEEN, THERE[:3]], "K at least 4, got (3, 2)"),
        (
            [SEEN, [[1, 1], [20, 20], [40, 40], [70, 5]]],
            "No three of the four points of the thermal",
        ),
        ([SEEN, [[5, 5]] * 4], "The points of the thermal image must be spread"),
        ([SEEN, [THERE[1], THERE[0], THERE[3], THERE[2]]], "but no view of a place fits them"),
        ([SEEN, ["1", "2", "3", "4"]], "Points must be pairs of numbers"),
        ([SEEN, [[1e999, 2]] * 4], "must be finite"),
        ([[[1, 2]] * 51, [[1, 2]] * 51], "at most 50 pairs"),
        ({"rgb": SEEN}, "Points must be two lists"),
    ],
)
def test_points_that_fix_no_view_are_refused_on_the_page(points, message):
    with picking() as (url, picked):
        status, answer, _ = ask(url, "points", "POST", points)
        assert (status, picked.empty()) == (400, True)
        assert message in answer.decode()


def test_points_are_taken_back():
    with picking() as (url, picked):
        ask(url, "points", "POST", [SEEN, SEEN])
        assert ask(url, "points", "POST", [[], []])[0] == 200
        ask(url, "box", "POST", [10, 20, 30, 15])
        assert picked.get(timeout=20).alignment is None


def test_where_the_alignment_is_known_the_thermal_picture_is_laid_and_no_points_are_asked_for():
    for known in ((-5, 0), np.array([[1.0, 0, -5], [0, 1, 0], [0, 0, 1]])):
        with picking(tir=np.arange(80, dtype=np.uint8)[None].repeat(60, 0), tir_from_rgb=known) as (
            url,
            _,
        ):
            assert json.loads(ask(url, "settings.json")[1])["points"] is False
            assert ask(url, "points", "POST", [SEEN, SEEN])[0] == 404
            shown = cv2().imdecode(np.frombuffer(ask(url, "tir.png")[1], np.uint8), 0)
            assert shown[30, 20:24].tolist() == [15, 16, 17, 18]


def test_an_alignment_alone_is_kept_by_the_person():
    with picking(pick=pick_alignment, end=("keep", [])) as (url, picked):
        assert json.loads(ask(url, "settings.json")[1])["box"] is False
        assert ask(url, "box", "POST", [10, 20, 30, 15])[0] == 404
        assert ask(url, "keep", "POST", [])[:2] == (400, b"Click 4 pairs of points first.")
        assert ask(url, "points", "POST", [SEEN, SEEN])[0] == 200
        assert picked.empty()
        assert ask(url, "keep", "POST", [])[0] == 200
        np.testing.assert_allclose(picked.get(timeout=20).tir_from_rgb, np.eye(3), atol=1e-9)


def test_a_port_that_is_none_or_taken_is_told():
    cv2()
    with pytest.raises(ValueError, match="port must be a number from 0 to 65535, got 70000"):
        pick_target(RGB, TIR, announce=print, port=70_000)
    with picking() as (url, _), pytest.raises(OSError, match=f"got {url.port}: Address already"):
        pick_target(RGB, TIR, announce=print, port=url.port)
