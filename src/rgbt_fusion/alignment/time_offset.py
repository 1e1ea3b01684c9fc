"""By how many frames one recording is behind the other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.alignment.geometry import Matrix, local_scale, resizing
from rgbt_fusion.alignment.gradients import Field, Plane, doubled_angle_field
from rgbt_fusion.frames.peak import vertex
from rgbt_fusion.frames.reading import load_cv2

__all__ = ["FEWEST_TIMES", "TimeOffset", "find_time_offset", "reach"]

WIDTH = 112
"""Width of the colour frames in the comparison."""

SLACK_PX = 8
"""Shift between the recordings that is allowed: a registration of frames of two moments is off."""

FEWEST_TIMES = 16
"""Moments that must be compared at every offset."""

LEAST_CORRELATION = 0.2
"""Correlation of the changes below which nothing common moves."""

LEAST_LEAD = 0.042
"""How far the best offset must be ahead of distant ones, as a share of its correlation."""


class TimeOffset(NamedTuple):
    """When the thermal frames show what the colour frames show."""

    frames: float
    """Colour frame t shows the moment of thermal frame t + ``frames``."""
    correlation: float
    """Of the changes in both recordings at this offset."""
    lead: float
    """How far this is above all offsets two or more frames away, as a share of it."""
    at_the_end: bool
    """Whether this is the largest offset that was tried, so that the true one may be beyond."""

    @property
    def known(self) -> bool:
        """Whether the offset can be relied on."""
        is_clear = self.correlation >= LEAST_CORRELATION and self.lead >= LEAST_LEAD
        return is_clear and not self.at_the_end


def reach(frames: int, largest: int) -> int:
    """Return the largest offset that this many frames can show, at most ``largest``.

    Example:
        >>> from rgbt_fusion.alignment.time_offset import reach
        >>> reach(60, 10), reach(20, 10), reach(6, 10)
        (10, 2, 0)
    """
    return max(0, min(largest, (frames - FEWEST_TIMES) // 2))


def find_time_offset(
    rgb: Sequence[Plane], tir: Sequence[Plane], tir_from_rgb: Matrix, *, largest: int
) -> TimeOffset:
    r"""Find the offset at which both recordings change alike.

    The doubled-angle fields of both are laid on each other. Their mean over the moments compared
    is taken off: what stays put says nothing about time. What is left, by a camera that moves or by
    things that move, is correlated at each offset; the best of the shifts nearby counts, one for
    all frames.

    .. math::
        c(d) = \max_u \frac{\sum_t \sum_x f'_t(x) \cdot h'_{t + d}(x + u)}
        {\sqrt{\sum_t \|f'_t\|^2 \ \sum_t \|h'_{t + d}\|^2}}, \qquad
        f'_t = f_t - \bar f, \ h'_t = h_t - \bar h

    Choices: at the right offset the shift between the modalities is constant, whatever the path of
    the camera, so one shift for all frames fits best there. Unlike a comparison of paths this also
    sees things that move before a camera that does not.

    Args:
        rgb: consecutive colour images.
        tir: as many consecutive thermal images.
        tir_from_rgb: how the recordings lie on each other.
        largest: the largest offset to try, at most :func:`reach` of the number of frames.
    """
    fields = _Fields(rgb, tir, tir_from_rgb)
    times = np.arange(largest, len(rgb) - largest)
    offsets = np.arange(-largest, largest + 1)
    scores = np.array([fields.correlation(times, int(offset)) for offset in offsets])
    best = int(scores.argmax())
    distant = np.abs(offsets - offsets[best]) >= 2
    correlation = float(scores[best])
    lead = 0.0
    if distant.any() and correlation > 0:
        lead = (correlation - float(scores[distant].max())) / correlation
    return TimeOffset(
        frames=float(offsets[best]) + vertex(scores, best),
        correlation=correlation,
        lead=lead,
        at_the_end=best in (0, len(scores) - 1),
    )


class _Fields:
    """The changing part of both recordings, the thermal one laid on the colour one."""

    def __init__(self, rgb: Sequence[Plane], tir: Sequence[Plane], tir_from_rgb: Matrix) -> None:
        cv2 = load_cv2()
        height, width = rgb[0].shape
        self.size = (WIDTH, round(WIDTH * height / width))
        self.padded = (
            cv2.getOptimalDFTSize(self.size[1] + 2 * SLACK_PX),
            cv2.getOptimalDFTSize(self.size[0] + 2 * SLACK_PX),
        )
        small_from_full = resizing((width, height), self.size)
        tir_from_small = tir_from_rgb @ np.linalg.inv(small_from_full)
        mask = self._mask(tir[0], tir_from_small)[:, :, None]
        colour = [doubled_angle_field(self._reduced(plane)) * mask for plane in rgb]
        scale = local_scale(tir_from_small, self.size[0] / 2, self.size[1] / 2)
        thermal = [
            doubled_angle_field(self._laid_on(plane, tir_from_small, scale)) * mask for plane in tir
        ]
        self.colour = _Changes(colour, self.padded)
        self.thermal = _Changes(thermal, self.padded)

    def correlation(self, times: NDArray[np.int64], offset: int) -> float:
        """Return the correlation of the changes at an offset, at the best shift nearby."""
        cv2 = load_cv2()
        colour = self.colour.at(times)
        thermal = self.thermal.at(times + offset)
        product = -len(times) * cv2.mulSpectrums(thermal.mean, colour.mean, 0, conjB=True)
        for heat, light in zip(thermal.spectra, colour.spectra, strict=True):
            product += cv2.mulSpectrums(heat, light, 0, conjB=True)
        surface = cv2.dft(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)[:, :, 0]
        # shifts to the left and upwards are at the far end
        nearby = np.roll(surface, (SLACK_PX, SLACK_PX), axis=(0, 1))
        nearby = nearby[: 2 * SLACK_PX + 1, : 2 * SLACK_PX + 1]
        return _top(nearby) / float(np.sqrt(colour.energy * thermal.energy + 1e-9))

    def _mask(self, plane: Plane, tir_from_small: Matrix) -> Plane:
        cv2 = load_cv2()
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        inside = cv2.warpPerspective(np.ones_like(plane), tir_from_small, self.size, flags=flags)
        without_rim = cv2.erode(inside, np.ones((5, 5), dtype=np.uint8))
        return (without_rim > 0.99).astype(np.float32)

    def _reduced(self, plane: Plane) -> Plane:
        cv2 = load_cv2()
        return cv2.resize(plane, self.size, interpolation=cv2.INTER_AREA)

    def _laid_on(self, plane: Plane, tir_from_small: Matrix, scale: float) -> Plane:
        cv2 = load_cv2()
        # a shrinking warp reads single pixels, so the image is blurred first
        soft = cv2.GaussianBlur(plane, (0, 0), 0.42 * scale) if scale > 1.6 else plane
        return cv2.warpPerspective(
            soft,
            tir_from_small,
            self.size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )


class _Moments(NamedTuple):
    """Fields of some moments; what changes is what they are without their mean."""

    spectra: list[Field]
    mean: Field
    """Spectrum of the mean."""
    energy: float
    """Squared length of all changes."""


class _Changes:
    """The fields of one recording."""

    def __init__(self, fields: Sequence[Field], padded: tuple[int, int]) -> None:
        # what stays put all the time would drown what changes in its rounding
        self.fields = np.array(fields) - np.mean(fields, axis=0)
        self.padded = padded
        self.energy = (self.fields**2).sum(axis=(1, 2, 3))
        self.spectra = [self._spectrum(field) for field in self.fields]

    def at(self, times: NDArray[np.int64]) -> _Moments:
        """Return the moments that are compared; the mean is theirs alone."""
        mean = self.fields[times].mean(axis=0)
        energy = float(self.energy[times].sum()) - len(times) * float((mean**2).sum())
        spectra = [self.spectra[time] for time in times]
        return _Moments(spectra, self._spectrum(mean), max(0.0, energy))

    def _spectrum(self, field: Field) -> Field:
        padded = np.zeros((*self.padded, 2), dtype=np.float32)
        padded[: field.shape[0], : field.shape[1]] = field
        return load_cv2().dft(padded)


def _top(surface: Plane) -> float:
    """Return the height of the parabolas through the highest pixel and its neighbours."""
    # whole shifts alone would favour the offset at which the matrix was found: there it is 0
    row, column = divmod(int(surface.argmax()), surface.shape[1])
    height = float(surface[row, column])
    for line, peak in ((surface[row], column), (surface[:, column], row)):
        if 0 < peak < len(line) - 1:
            height -= vertex(line, peak) * float(line[peak - 1] - line[peak + 1]) / 4
    return height
