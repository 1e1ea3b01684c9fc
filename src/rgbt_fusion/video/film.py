"""Films: video files that drawn pictures are written to."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rgbt_fusion.checks import check_choice
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.files.whole import writing
from rgbt_fusion.frames.drawing import Picture, resize
from rgbt_fusion.frames.reading import load_cv2

__all__ = ["VIDEO_CODES", "VideoFile", "writing_video"]

VIDEO_CODES = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG", ".webm": "VP90"}
"""How a video file of each ending is encoded; browsers and chat programs play ``.webm``."""


@contextmanager
def writing_video(path: str | Path, *, fps: float = 25.0) -> Iterator["VideoFile"]:
    """Write a video that appears at ``path`` only when it is complete.

    Args:
        path: the file; its ending, a key of ``VIDEO_CODES``, decides how it is encoded.
        fps: pictures per second.

    Raises:
        ValueError: ``path`` has another ending.
        DataError: ``path`` cannot be written.
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
    with ExitStack() as stack:
        video = VideoFile(path, fps, stack)
        yield video
        video.finish()


class VideoFile:
    """A video that is being written; :func:`writing_video` makes one.

    Args:
        path: the file.
        fps: pictures per second.
        stack: what closes the file, or discards it after an exception.
    """

    def __init__(self, path: str | Path, fps: float, stack: ExitStack) -> None:
        self.path = Path(path)
        self.fps = fps
        check_choice(self._ending, VIDEO_CODES, name="the ending of the video")
        self._stack = stack
        self._part = self.path
        self._writer: Any = None
        self._size = (0, 0)
        self._written = 0

    def write(self, picture: Picture) -> None:
        """Append a picture; the first one decides the size of the video."""
        height, width = picture.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            self._open()
        if (width, height) != self._size:
            picture = resize(picture, *self._size)
        blue_first = picture[:, :, ::-1]
        self._writer.write(np.ascontiguousarray(blue_first))
        self._written += 1

    def finish(self) -> None:
        """Check that the disk holds what was written: OpenCV says nothing of a full disk."""
        if self._writer is None:
            return
        self._writer.release()
        cv2 = load_cv2()
        capture = cv2.VideoCapture(str(self._part))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        # a container only estimates its count, but the file of a full disk lacks its end or index
        if found < self._written - 1:
            raise DataError(
                f"{self.path} cannot be written: {found} of {self._written} pictures arrived "
                "on the disk"
            )

    @property
    def _ending(self) -> str:
        return self.path.suffix.lower()

    def _open(self) -> None:
        """Start the part of the file that takes its name at the end."""
        cv2 = load_cv2()
        try:
            self._part = self._stack.enter_context(writing(self.path, keep_suffix=True))
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}") from None
        code = cv2.VideoWriter.fourcc(*VIDEO_CODES[self._ending])
        # OpenCV would say that WebM has no such code, and write it all the same
        with _silent_error_stream():
            self._writer = cv2.VideoWriter(str(self._part), code, self.fps, self._size)
        self._stack.callback(self._writer.release)
        if not self._writer.isOpened():
            raise DataError(f"{self.path} cannot be written: OpenCV cannot open it")


@contextmanager
def _silent_error_stream() -> Iterator[None]:
    """Drop what C code writes to the error stream, which knows no level of its own."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
