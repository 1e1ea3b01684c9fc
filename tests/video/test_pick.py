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

from rgbt_fusion.video.pick import pick_box
from video_material import cv2

RGB, TIR = np.zeros((60, 80, 3), dtype=np.uint8), np.zeros((60, 80), dtype=np.uint16)


@contextmanager
def picking(rgb=RGB, tir=TIR):
    """A page that waits for a box: its address, and where the box arrives."""
    cv2()
    addresses, boxes = Queue(), Queue()
    thread = Thread(
        target=lambda: boxes.put(pick_box(rgb, tir, announce=addresses.put)), daemon=True
    )
    thread.start()
    url = urlsplit(addresses.get(timeout=20))
    yield url, boxes
    if thread.is_alive():
        ask(url, "box", "POST", [1, 2, 30, 40])
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
        assert boxes.get(timeout=20) == (10.0, 20.5, 30.0, 15.0)
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
        assert ask(url, "box", "POST", body=b"1" * 2000)[0] == 400
        assert boxes.empty()


def test_without_a_frame_there_is_nothing_to_pick_from():
    with pytest.raises(ValueError, match="must not both be missing"):
        pick_box(None, None, announce=print)
