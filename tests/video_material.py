"""What the tests of video share: the same scene as folders of images and as videos."""

from pathlib import Path

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
