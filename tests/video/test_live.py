"""The page of a tracking in progress over plain HTTP: pictures as they come, and how it ends."""

import re
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest

from rgbt_fusion.video.live import LivePage
from video_material import Viewer, ask, cv2


@pytest.fixture(autouse=True)
def opencv():
    cv2()


def grey(level: int):
    return lambda: np.full((48, 64, 3), level, dtype=np.uint8)


def test_a_viewer_sees_the_pictures_in_order_the_last_one_too_and_the_end():
    addresses: list[str] = []
    with LivePage(announce=addresses.append) as page:
        assert not page.wait_for_viewer(0.0)
        viewer = Viewer(addresses[0])
        viewer.start()
        assert page.wait_for_viewer(20.0)
        for level in range(10, 200, 10):
            page.show(grey(level), f"frame {level} %")
        page.end("It ended after 19 frames.")
    viewer.join(timeout=20)
    assert viewer.end == "It ended after 19 frames."
    assert viewer.levels == sorted(set(viewer.levels))
    assert viewer.levels[-1] == 190
    assert viewer.texts[-1] == "frame 190 %"
    url = urlsplit(addresses[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port), timeout=5)


def test_nothing_is_drawn_while_nobody_looks():
    def never():
        raise AssertionError

    with LivePage(announce=lambda address: None) as page:
        page.show(never, "frame 1")


def test_a_viewer_hears_of_an_error():
    addresses: list[str] = []
    viewers: list[Viewer] = []
    with pytest.raises(KeyboardInterrupt), LivePage(announce=addresses.append) as page:
        viewers.append(Viewer(addresses[0]))
        viewers[0].start()
        page.wait_for_viewer(20.0)
        raise KeyboardInterrupt
    viewers[0].join(timeout=20)
    assert viewers[0].end == "The command was stopped; the terminal says why."


def test_the_page_is_for_this_machine_and_loads_nothing_from_elsewhere():
    addresses: list[str] = []
    with LivePage(announce=addresses.append):
        url = urlsplit(addresses[0])
        assert url.hostname == "127.0.0.1"
        _, page, headers = ask(url, "")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert not re.search(rb"(https?:)?//[a-z]", page)
        for name in ("picture?after=x", "picture?after=1&after=2", "other", "../"):
            assert ask(url, name)[0] == 404
        assert ask(url._replace(path="/"), "picture?after=0")[0] == 404
