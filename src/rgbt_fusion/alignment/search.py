"""Every placement of one image on another, tried at once by masked correlation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.alignment.geometry import Matrix, distinct, resizing, similarity
from rgbt_fusion.alignment.gradients import Field, Plane, doubled_angle_field
from rgbt_fusion.frames.reading import load_cv2

__all__ = ["SCALES", "Placement", "PlanePair", "search"]

SCALES: tuple[float, ...] = tuple(np.exp(np.linspace(np.log(0.46), np.log(2.17), 16)).tolist())
"""Thermal pixels per colour pixel that are tried."""

TURNS_DEG = (-3.5, 0.0, 3.5)

WIDTH = 112
"""Width of the colour image in the search."""

PEAKS = 3
"""Placements kept per scale and turn."""

SAME_PEAK = 5
"""Pixels around a peak that belong to it."""

SMALLEST_SHARE = 0.35
"""Least share of the smaller image that must overlap."""

SMALLEST_OVERLAP = 0.12
"""Least share of the colour image that must overlap."""

DISTINCT = 0.045
"""Placements that move the image by less than this share of its width are one."""


class PlanePair(NamedTuple):
    """The grey images of both cameras at one moment; sizes may differ between the two."""

    rgb: Plane
    tir: Plane


class Placement(NamedTuple):
    """One way to lay the thermal image on the colour image."""

    score: float
    tir_from_rgb: Matrix


class _Peak(NamedTuple):
    score: float
    x: int
    y: int


def search(pairs: Sequence[PlanePair], *, count: int) -> list[Placement]:
    r"""Return the placements that fit best, the best first.

    The thermal image is scaled and turned on a grid; all shifts of one scale and turn are scored by
    one masked correlation of the doubled-angle fields. The sums go over all pairs before they are
    divided, so frames that show little add little.

    .. math::
        q(u) = \frac{\sum_t \sum_x f_t(x + u) \cdot h_t(x)}
        {\sqrt{\sum_t \sum_x m(x) |f_t(x + u)|^2 \ \sum_t \sum_x |h_t(x)|^2 1(x + u)}}

    with the fields :math:`f` of the colour and :math:`h` of the thermal image, and the mask
    :math:`m` of the pixels that the thermal image covers.

    Choices: scales from 0.46 to 2.17, and turns of -3.5, 0 and 3.5 degrees; the refinement reaches
    what is between and a little beyond.

    Args:
        pairs: images of the same moments; all of a camera have one size.
        count: number of placements.

    Source:
        Padfield, "Masked Object Registration in the Fourier Domain", IEEE TIP 2012.
    """
    height, width = pairs[0].rgb.shape
    grid = _Grid([pair.rgb for pair in pairs])
    found: list[Placement] = []
    for scale in SCALES:
        for degrees in TURNS_DEG:
            found += grid.placements([pair.tir for pair in pairs], scale, degrees)
    found.sort(key=lambda placement: -placement.score)
    return distinct(found, (width, height), DISTINCT, count=count)


class _Grid:
    """The colour images in the search, ready to be correlated with."""

    def __init__(self, planes: Sequence[Plane]) -> None:
        cv2 = load_cv2()
        self.full_size = (planes[0].shape[1], planes[0].shape[0])
        self.width = WIDTH
        self.height = round(WIDTH * self.full_size[1] / self.full_size[0])
        self.padded = (
            cv2.getOptimalDFTSize(2 * self.height),
            cv2.getOptimalDFTSize(2 * self.width),
        )
        self.low_from_full = resizing(self.full_size, (self.width, self.height))
        self.spectra = []
        energy = np.zeros((self.height, self.width), dtype=np.float32)
        for plane in planes:
            small = cv2.resize(plane, (self.width, self.height), interpolation=cv2.INTER_AREA)
            field = doubled_angle_field(small)
            energy += np.einsum("hwc,hwc->hw", field, field)
            self.spectra.append(self.spectrum(field))
        # two real images travel as one complex one: the energy, and where the image is
        self.energy_and_mask = self.spectrum(np.dstack((energy, np.ones_like(energy))))
        self.mask = self.spectrum(np.dstack((np.ones_like(energy), np.zeros_like(energy))))

    def spectrum(self, field: Field) -> Field:
        """Return the spectrum of a field of two channels, taken as complex numbers."""
        cv2 = load_cv2()
        padded = np.zeros((*self.padded, 2), dtype=np.float32)
        padded[: field.shape[0], : field.shape[1]] = field
        return cv2.dft(padded)

    def placements(self, planes: Sequence[Plane], scale: float, degrees: float) -> list[Placement]:
        """Return the best shifts of one scale and turn."""
        cv2 = load_cv2()
        canvas_from_tir, canvas_size = self._canvas(planes[0], scale, degrees)
        mask = _covered(planes[0], canvas_from_tir, canvas_size)
        blur = scale * self.full_size[0] / self.width
        product = np.zeros((*self.padded, 2), dtype=np.float32)
        energy = np.zeros_like(mask)
        for plane, spectrum in zip(planes, self.spectra, strict=True):
            # a shrinking warp reads single pixels, so the image is blurred first
            soft = cv2.GaussianBlur(plane, (0, 0), 0.42 * blur) if blur > 1.6 else plane
            shown = cv2.warpPerspective(
                soft, canvas_from_tir, canvas_size, borderMode=cv2.BORDER_REPLICATE
            )
            field = doubled_angle_field(shown) * mask[:, :, None]
            energy += np.einsum("hwc,hwc->hw", field, field)
            product += cv2.mulSpectrums(spectrum, self.spectrum(field), 0, conjB=True)
        # the real part of the product of two doubled angles is their scalar product
        common = _back(product)[:, :, 0]
        mask_spectrum = self.spectrum(np.dstack((mask, np.zeros_like(mask))))
        both = _back(cv2.mulSpectrums(self.energy_and_mask, mask_spectrum, 0, conjB=True))
        rgb_energy = both[:, :, 0]
        overlap = both[:, :, 1]
        energy_spectrum = self.spectrum(np.dstack((energy, np.zeros_like(energy))))
        tir_energy = _back(cv2.mulSpectrums(self.mask, energy_spectrum, 0, conjB=True))[:, :, 0]
        score = common / np.sqrt(np.maximum(rgb_energy, 1e-3) * np.maximum(tir_energy, 1e-3))

        area = self.width * self.height
        smaller = min(area, float(mask.sum()))
        least = max(SMALLEST_SHARE * smaller, SMALLEST_OVERLAP * area)
        # a large overlap is preferred a little: a small one fits by chance more easily
        preference = np.minimum(1, np.maximum(overlap, 0) / (0.6 * area)) ** 0.25
        score = np.where(overlap > least, score * preference, -1)

        tir_from_canvas = np.linalg.inv(canvas_from_tir)
        found = []
        for peak in self._peaks(score, canvas_size):
            canvas_from_low = np.array([[1, 0, -peak.x], [0, 1, -peak.y], [0, 0, 1]])
            matrix = tir_from_canvas @ canvas_from_low @ self.low_from_full
            found.append(Placement(peak.score, matrix / matrix[2, 2]))
        return found

    def _canvas(self, plane: Plane, scale: float, degrees: float) -> tuple[Matrix, tuple[int, int]]:
        """Return the matrix and the size of the thermal image as the search sees it."""
        height, width = plane.shape
        factor = self.width / self.full_size[0] / scale
        shown_width = width * factor
        shown_height = height * factor
        # a turned image is a little larger
        canvas_width = min(np.ceil(1.06 * shown_width), 1.9 * self.width)
        canvas_height = min(np.ceil(1.06 * shown_height + 0.06 * shown_width), 1.9 * self.height)
        size = (int(canvas_width), int(canvas_height))
        middle = ((width - 1) / 2, (height - 1) / 2)
        canvas_middle = ((size[0] - 1) / 2, (size[1] - 1) / 2)
        return similarity(factor, -degrees, middle, canvas_middle), size

    def _peaks(self, score: NDArray[np.float32], canvas: tuple[int, int]) -> list[_Peak]:
        """Return the highest points of a surface; it is changed."""
        rows, columns = self.padded
        # shifts repeat with the padded size; the ones around both middles on each other are meant
        last_x = (columns + self.width - canvas[0]) / 2
        last_y = (rows + self.height - canvas[1]) / 2
        found = []
        for _ in range(PEAKS):
            y, x = divmod(int(score.argmax()), columns)
            if score[y, x] <= 0:
                break
            shift_x = x if x < last_x else x - columns
            shift_y = y if y < last_y else y - rows
            found.append(_Peak(float(score[y, x]), shift_x, shift_y))
            around_y = np.arange(y - SAME_PEAK, y + SAME_PEAK + 1) % rows
            around_x = np.arange(x - SAME_PEAK, x + SAME_PEAK + 1) % columns
            score[np.ix_(around_y, around_x)] = -1
        return found


def _covered(plane: Plane, matrix: Matrix, size: tuple[int, int]) -> Plane:
    """Return 1 where the image lies after the matrix, and 0 elsewhere and at its rim."""
    cv2 = load_cv2()
    inside = cv2.warpPerspective(np.ones_like(plane), matrix, size)
    without_rim = cv2.erode(inside, np.ones((3, 3), dtype=np.uint8))
    return (without_rim > 0.99).astype(np.float32)


def _back(spectrum: Field) -> Field:
    cv2 = load_cv2()
    return cv2.dft(spectrum, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)
