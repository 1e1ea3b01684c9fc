"""Video files that drawn pictures are written to."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rgbt_fusion.checks import check_choice
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.drawing import Picture, resize
from rgbt_fusion.frames.reading import load_cv2

__all__ = ["VIDEO_CODES", "VideoFile", "writing_video"]

VIDEO_CODES = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}
"""What a video file of each ending is encoded with."""


class VideoFile:
    """A video that is written beside its place and moved there when it is whole; see
    :func:`writing_video`."""

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path, self.fps = Path(path), fps
        check_choice(self.path.suffix.lower(), VIDEO_CODES, name="the ending of the video")
        self.beside = self.path.with_name(f".{self.path.stem}.part{self.path.suffix}")
        self._writer: Any = None
        self._size = (0, 0)
        self._written = 0

    def write(self, picture: Picture) -> None:
        """Append a picture; the first one's size is the video's."""
        cv2 = load_cv2()
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            code = cv2.VideoWriter.fourcc(*VIDEO_CODES[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self.beside), code, self.fps, self._size)
            if not self._writer.isOpened():
                raise DataError(f"{self.path} cannot be written: OpenCV cannot open it")
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = resize(picture, *self._size)
        self._writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
        self._written += 1

    def close(self, *, whole: bool) -> None:
        """Move the video to its place, or throw it away where it is not whole."""
        if self._writer is not None:
            self._writer.release()
        try:
            if whole and self._writer is not None:
                self._check()
                self.beside.replace(self.path)
        finally:
            self.beside.unlink(missing_ok=True)

    def _check(self) -> None:
        """Raise where the file does not hold what was written: OpenCV says nothing of a full
        disk."""
        cv2 = load_cv2()
        capture = cv2.VideoCapture(str(self.beside))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        # the count of a container is an estimate, but the file of a full disk lacks its end or its
        # index
        if found < self._written - 1:
            raise DataError(
                f"{self.path} cannot be written: {found} of {self._written} pictures arrived on the disk"
            )


@contextlib.contextmanager
def writing_video(path: str | Path, *, fps: float = 25.0) -> Iterator[VideoFile]:
    """Write a video that appears at ``path`` only when it is whole.

    Args:
        path: the file; its ending, one of ``VIDEO_CODES``, says how it is encoded.
        fps: pictures a second.

    Raises:
        ValueError: another ending.
        DataError: the file cannot be written.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from rgbt_fusion.video.film import writing_video
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "grey.avi"
        >>> with writing_video(path) as video:
        ...     video.write(np.full((48, 64, 3), 128, dtype=np.uint8))
        ...     path.exists()
        False
        >>> path.exists()
        True
    """
    load_cv2()
    video = VideoFile(path, fps)
    try:
        yield video
    except BaseException:
        video.close(whole=False)
        raise
    video.close(whole=True)
