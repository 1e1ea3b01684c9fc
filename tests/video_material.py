"""What the tests of video share: the same scene as folders of images and as videos, a viewer."""

import http.client
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from tracking_material import scene


def cv2():
    return pytest.importorskip("cv2", reason="OpenCV is not installed")


def write_images(folder: Path, images: list[np.ndarray], ending: str = "png") -> Path:
    """Write images under names that only sort naturally."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images, 8):
        stored = image[:, :, ::-1] if image.ndim == 3 else image
        assert cv2().imwrite(str(folder / f"frame{number}.{ending}"), stored)
    return folder


def write_video(
    path: Path, images: list[np.ndarray], *, fps: float = 20.0, code: str = "MJPG"
) -> Path:
    height, width = images[0].shape[:2]
    writer = cv2().VideoWriter(str(path), cv2().VideoWriter.fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(
            np.ascontiguousarray(
                image[:, :, ::-1] if image.ndim == 3 else np.stack([image] * 3, axis=-1)
            )
        )
    writer.release()
    return path


def split(frames: int = 5, **options) -> tuple[list[np.ndarray], list[np.ndarray]]:
    pairs = scene(frames, **options)
    return [rgb for rgb, _ in pairs], [tir for _, tir in pairs]


def ask(url, name: str):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    connection.request("GET", url.path + name)
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.headers)
    connection.close()
    return found


class Viewer(Thread):
    """A browser that is quick enough: it asks for the next picture as soon as it has the last."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.url = urlsplit(address)
        self.levels: list[int] = []
        self.texts: list[str] = []
        self.end = ""

    def run(self) -> None:
        assert ask(self.url, "")[0] == 200
        after = "0"
        while True:
            status, body, headers = ask(self.url, f"picture?after={after}")
            if status == 204:
                continue
            if status == 410:
                self.end = body.decode()
                return
            after = headers["X-Number"]
            picture = cv2().imdecode(np.frombuffer(body, np.uint8), 1)
            self.levels.append(round(picture.mean()))
            self.texts.append(unquote(headers["X-Text"]))
