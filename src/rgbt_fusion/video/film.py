"""Films: video files that drawn pictures are written to."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

import numpy as np

from rgbt_fusion.checks import check_choice
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.files.whole import writing
from rgbt_fusion.frames.drawing import Picture, resize
from rgbt_fusion.frames.reading import load_cv2

__all__ = ["VIDEO_CODES", "VideoFile", "default_ending", "plays_in_browsers", "writing_video"]

VIDEO_CODES = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG", ".webm": "VP90"}
"""How OpenCV encodes a video file of each ending; an ffmpeg on the path writes ``.mp4`` as H.264,
see :func:`plays_in_browsers`."""

H264 = "libx264"
"""The encoder that an ffmpeg must have to be used."""

QUALITY = 20
"""Constant rate factor of H.264: below what an eye sees in drawn frames."""


def plays_in_browsers(path: str | Path) -> bool:
    """Return whether browsers and chat programs play a video written to ``path`` here.

    They play ``.webm``, and ``.mp4`` where an ffmpeg with libx264 is on the path. Without one,
    OpenCV writes ``.mp4`` as MPEG-4 part 2, which only video players show.

    Example:
        >>> from rgbt_fusion.video.film import plays_in_browsers
        >>> plays_in_browsers("night.webm"), plays_in_browsers("night.avi")
        (True, False)
    """
    ending = Path(path).suffix.lower()
    return ending == ".webm" or (ending == ".mp4" and _h264_writer() is not None)


def default_ending() -> str:
    """Return the ending of a video that has none: the most common one that browsers play."""
    return ".mp4" if plays_in_browsers("film.mp4") else ".webm"


def _h264_writer() -> str | None:
    """Return the ffmpeg on the path if it can write H.264."""
    program = shutil.which("ffmpeg")
    if program is None or not _can_encode(program):
        return None
    return program


@cache
def _can_encode(program: str) -> bool:
    """Return whether an ffmpeg has the encoder."""
    command = [program, "-hide_banner", "-h", f"encoder={H264}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return f"Encoder {H264}" in answer.stdout


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
        check_choice(self.path.suffix.lower(), VIDEO_CODES, name="the ending of the video")
        self._stack = stack
        self._part = self.path
        self._encoder: _Encoder | None = None
        self._size = (0, 0)
        self._written = 0

    def write(self, picture: Picture) -> None:
        """Append a picture; the first one decides the size of the video."""
        height, width = picture.shape[:2]
        if self._encoder is None:
            self._size = (width, height)
            self._encoder = self._open()
        if (width, height) != self._size:
            picture = resize(picture, *self._size)
        self._encoder.write(picture)
        self._written += 1

    def finish(self) -> None:
        """Check that the disk holds what was written: OpenCV says nothing of a full disk."""
        if self._encoder is None:
            return
        self._encoder.finish()
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

    def _open(self) -> "_Encoder":
        """Start the part of the file that takes its name at the end."""
        try:
            self._part = self._stack.enter_context(writing(self.path, keep_suffix=True))
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}") from None
        ending = self.path.suffix.lower()
        program = _h264_writer() if ending == ".mp4" else None
        if program is not None:
            encoder: _Encoder = _FFmpegEncoder(program, self._part, self.path, self.fps, self._size)
        else:
            encoder = _OpenCVEncoder(VIDEO_CODES[ending], self._part, self.fps, self._size)
        self._stack.callback(encoder.close)
        if not encoder.is_open():
            raise DataError(f"{self.path} cannot be written: OpenCV cannot open it")
        return encoder


class _Encoder(Protocol):
    """What turns pictures of one size into a file."""

    def is_open(self) -> bool: ...

    def write(self, picture: Picture) -> None: ...

    def finish(self) -> None:
        """Write what is left; raise where the file is not whole."""
        ...

    def close(self) -> None:
        """Let go of the file, whole or not."""
        ...


class _OpenCVEncoder:
    """The encoders inside OpenCV."""

    def __init__(self, code: str, part: Path, fps: float, size: tuple[int, int]) -> None:
        cv2 = load_cv2()
        # OpenCV would say that WebM has no such code, and write it all the same
        with _silent_error_stream():
            self._writer: Any = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*code), fps, size)

    def is_open(self) -> bool:
        return self._writer.isOpened()

    def write(self, picture: Picture) -> None:
        blue_first = picture[:, :, ::-1]
        self._writer.write(np.ascontiguousarray(blue_first))

    def finish(self) -> None:
        self._writer.release()

    def close(self) -> None:
        self._writer.release()


class _FFmpegEncoder:
    """An ffmpeg that takes pictures on its standard input and writes H.264."""

    def __init__(
        self, program: str, part: Path, path: Path, fps: float, size: tuple[int, int]
    ) -> None:
        self._path = path
        # closed by close, as the process writes to it until then
        self._messages = TemporaryFile()  # noqa: SIM115
        pictures = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}")
        # H.264 as all programs play it has even sides, and the index stands before the pictures
        even = ("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p")
        coding = ("-c:v", H264, "-preset", "veryfast", "-crf", str(QUALITY))
        self._process = subprocess.Popen(
            [
                *(program, "-v", "error", "-y", *pictures, "-r", f"{fps:.6g}", "-i", "-"),
                *(*even, *coding, "-movflags", "+faststart", f"file:{part}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._messages,
            # Ctrl-C in the terminal is for the command, which ends the file itself
            start_new_session=True,
        )

    def is_open(self) -> bool:
        return True

    def write(self, picture: Picture) -> None:
        pipe = self._pipe()
        try:
            pipe.write(np.ascontiguousarray(picture).data)
        except OSError:
            self._refuse()

    def finish(self) -> None:
        try:
            self._pipe().close()
        except OSError:
            self._refuse()
        if self._process.wait():
            self._refuse()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with suppress(OSError):
            self._pipe().close()
        self._messages.close()

    def _pipe(self) -> Any:
        return self._process.stdin

    def _refuse(self) -> None:
        status = self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"it ended with status {status}"
        raise DataError(f"{self._path} cannot be written: ffmpeg: {reason}")


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
