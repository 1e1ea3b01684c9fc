"""From a rough placement to a fraction of a pixel by Gauss-Newton on oriented gradients."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.alignment.geometry import Matrix, local_scale, resizing
from rgbt_fusion.alignment.gradients import Field, Plane, oriented_channels
from rgbt_fusion.alignment.search import SCALES, PlanePair
from rgbt_fusion.frames.reading import load_cv2

__all__ = ["MODELS", "Fit", "Level", "MotionModel"]

MotionModel: TypeAlias = Literal["shift", "similarity", "affine", "homography"]
"""What may change: 2, 4, 6 or 8 numbers."""

MODELS: tuple[MotionModel, ...] = get_args(MotionModel)
"""What may lie between the two images, fewest numbers first."""

NUMBERS = {"shift": 2, "similarity": 4, "affine": 6, "homography": 8}

SOFT_ERROR = 0.5
"""Squared error at which a pixel has half the weight (Cauchy)."""

DAMPING = 1e-3
"""Share of the mean diagonal that is added to it (Levenberg)."""

SMALL_STEP_PX = 0.02

SMALLEST_OVERLAP = 0.03

FIELDS_ACROSS = 20
"""Fields along the width that :meth:`Level.support` counts."""


class Fit(NamedTuple):
    """A placement and how well it fits."""

    tir_from_rgb: Matrix
    correlation: float
    """Of the oriented gradients where both images are, in -1 to 1."""
    overlap: float
    """Share of the colour image that the thermal image covers."""

    @property
    def strength(self) -> float:
        r"""How unlikely the fit is by chance, in units that hardly depend on the overlap.

        .. math:: z = \operatorname{artanh}(q) \sqrt{o}
        """
        correlation = min(max(self.correlation, 0.0), 0.99)
        return float(np.arctanh(correlation) * np.sqrt(self.overlap))


class _ColourFrame(NamedTuple):
    channels: Field
    across: Field
    """Derivative along x."""
    down: Field
    energy: Plane
    """Squared length of the channels; the others are products of the derivatives."""
    across_across: Plane
    across_down: Plane
    down_down: Plane

    @classmethod
    def of(cls, channels: Field) -> "_ColourFrame":
        """Return what every step needs of a frame."""
        cv2 = load_cv2()
        across = cv2.Sobel(channels, -1, 1, 0, ksize=3, scale=1 / 8)
        down = cv2.Sobel(channels, -1, 0, 1, ksize=3, scale=1 / 8)
        return cls(
            channels=channels,
            across=across,
            down=down,
            energy=_dot(channels, channels),
            across_across=_dot(across, across),
            across_down=_dot(across, down),
            down_down=_dot(down, down),
        )


class Level:
    r"""Pairs of images at one width, on which placements are refined.

    The thermal channels are warped onto the colour channels. Each step moves the colour image to
    them, and the placement is composed with the inverse of that move, so the derivatives are taken
    once (inverse compositional).

    .. math::
        \min_p \sum_t \sum_x w(e) \| h_t(W(x; p)) - f_t(x) \|^2, \qquad
        w(e) = \frac{1}{1 + \|e\|^2 / 0.5}

    Args:
        pairs: images of the same moments.
        width: width to which the colour images are reduced.

    Source:
        Baker and Matthews, "Lucas-Kanade 20 Years On: A Unifying Framework", IJCV 2004.
    """

    def __init__(self, pairs: Sequence[PlanePair], width: int) -> None:
        cv2 = load_cv2()
        self.pairs = pairs
        height, full_width = pairs[0].rgb.shape
        self.full_size = (full_width, height)
        self.width = min(width, full_width)
        self.height = round(height * self.width / full_width)
        self.level_from_full = resizing(self.full_size, (self.width, self.height))
        self.colour = []
        for pair in pairs:
            small = cv2.resize(pair.rgb, (self.width, self.height), interpolation=cv2.INTER_AREA)
            self.colour.append(_ColourFrame.of(oriented_channels(small)))
        columns = np.arange(self.width, dtype=np.float32) - self.width / 2
        rows = np.arange(self.height, dtype=np.float32) - self.height / 2
        half = self.width / 2
        self.x, self.y = np.meshgrid(columns / half, rows / half)
        self._thermal: dict[float, list[Field]] = {}

    def refine(
        self,
        tir_from_rgb: Matrix,
        model: MotionModel,
        *,
        steps: int,
        part: NDArray[np.bool_] | None = None,
    ) -> Fit:
        """Return the best placement near ``tir_from_rgb``.

        Args:
            tir_from_rgb: where to start.
            model: what may change.
            steps: number of steps at most.
            part: pixels of the level to use; None takes all.
        """
        channels, level_from_tir = self._thermal_channels(tir_from_rgb)
        full_from_level = np.linalg.inv(self.level_from_full)
        warp = level_from_tir @ tir_from_rgb @ full_from_level
        jacobian = self._jacobian(model)
        best_warp = warp
        best = Fit(tir_from_rgb, -1.0, 0.0)
        for step in range(steps + 1):
            normal = _NormalEquations(jacobian)
            mask = self._mask(channels[0], warp)
            if part is not None:
                mask *= part
            for colour, thermal in zip(self.colour, channels, strict=True):
                normal.add(colour, self._warped(thermal, warp), mask)
            fit = Fit(tir_from_rgb, normal.correlation(), float(mask.mean()))
            if fit.correlation > best.correlation:
                best = fit
                best_warp = warp
            if step == steps or fit.overlap < SMALLEST_OVERLAP:
                break
            change = normal.solve()
            warp = warp @ np.linalg.inv(self._move(change, model))
            warp = warp / warp[2, 2]
            if not np.isfinite(warp).all():
                break
            if np.abs(change).max() < SMALL_STEP_PX:
                break
        matrix = np.linalg.inv(level_from_tir) @ best_warp @ self.level_from_full
        return best._replace(tir_from_rgb=matrix / matrix[2, 2])

    def support(self, tir_from_rgb: Matrix) -> float:
        r"""Return over how many fields of the image the agreement is spread.

        .. math:: n = \frac{(\sum_k a_k)^2}{\sum_k a_k^2}

        with :math:`a_k` what field k adds to the correlation. It is the number of the fields if all
        add alike, and 1 if a single one adds everything; 0 where the images do not agree at all.
        """
        cv2 = load_cv2()
        channels, level_from_tir = self._thermal_channels(tir_from_rgb)
        warp = level_from_tir @ tir_from_rgb @ np.linalg.inv(self.level_from_full)
        agreement = np.zeros((self.height, self.width), dtype=np.float32)
        for colour, thermal in zip(self.colour, channels, strict=True):
            agreement += _dot(self._warped(thermal, warp), colour.channels)
        agreement *= self._mask(channels[0], warp)
        fields_down = max(1, round(FIELDS_ACROSS * self.height / self.width))
        size = (FIELDS_ACROSS, fields_down)
        fields = cv2.resize(agreement, size, interpolation=cv2.INTER_AREA)
        total = max(0.0, float(fields.sum()))
        return total * total / (float((fields**2).sum()) + 1e-9)

    def _thermal_channels(self, tir_from_rgb: Matrix) -> tuple[list[Field], Matrix]:
        """Return the thermal channels at a size at which a pixel is about one of this level."""
        cv2 = load_cv2()
        width, height = self.full_size
        scale = local_scale(tir_from_rgb, width / 2, height / 2)
        # placements of nearly the same scale share their channels
        scale = min(SCALES, key=lambda known: abs(known - scale))
        reduction = min(1.0, self.width / width / scale)
        tir_height, tir_width = self.pairs[0].tir.shape
        small_width = max(16, round(tir_width * reduction))
        small_height = max(16, round(tir_height * reduction))
        if scale not in self._thermal:
            self._thermal[scale] = [
                oriented_channels(
                    cv2.resize(pair.tir, (small_width, small_height), interpolation=cv2.INTER_AREA)
                )
                for pair in self.pairs
            ]
        return self._thermal[scale], resizing((tir_width, tir_height), (small_width, small_height))

    def _warped(self, image: Field, warp: Matrix) -> Field:
        cv2 = load_cv2()
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(image, warp, (self.width, self.height), flags=flags)

    def _mask(self, image: Field, warp: Matrix) -> Plane:
        inside = self._warped(np.ones(image.shape[:2], dtype=np.float32), warp)
        return (inside > 0.99).astype(np.float32)

    def _jacobian(self, model: MotionModel) -> NDArray[np.float32]:
        """Return the move of each pixel per unit of each number, ``(2, P, H W)``, in pixels."""
        x = self.x.ravel()
        y = self.y.ravel()
        one = np.ones_like(x)
        zero = np.zeros_like(x)
        if model == "similarity":
            return np.array([[one, zero, x, -y], [zero, one, y, x]])
        along_x = [one, zero, x, y, zero, zero, -x * x, -x * y]
        along_y = [zero, one, zero, zero, x, y, -x * y, -y * y]
        count = NUMBERS[model]
        return np.array([along_x[:count], along_y[:count]])

    def _move(self, change: NDArray[np.float64], model: MotionModel) -> Matrix:
        """Return the matrix that moves the pixels of this level by ``change``."""
        half = self.width / 2
        normalised = np.array(
            [[1 / half, 0, -1], [0, 1 / half, -self.height / self.width], [0, 0, 1]]
        )
        unit = change / half
        move = np.eye(3)
        move[0, 2] = unit[0]
        move[1, 2] = unit[1]
        if model == "similarity":
            move[:2, :2] += [[unit[2], -unit[3]], [unit[3], unit[2]]]
        elif model != "shift":
            move[0, :2] += unit[2:4]
            move[1, :2] += unit[4:6]
        if model == "homography":
            move[2, :2] = unit[6:8]
        return np.linalg.inv(normalised) @ move @ normalised


class _NormalEquations:
    """Sums over pixels and frames of one Gauss-Newton step."""

    def __init__(self, jacobian: NDArray[np.float32]) -> None:
        self.jacobian = jacobian
        count = jacobian.shape[1]
        self.matrix = np.zeros((count, count))
        self.vector = np.zeros(count)
        self.common = 0.0
        self.energy_rgb = 1e-9
        self.energy_tir = 1e-9

    def add(self, colour: _ColourFrame, warped: Field, mask: Plane) -> None:
        """Add one pair."""
        error = warped - colour.channels
        weight = mask / (1 + _dot(error, error) / SOFT_ERROR)
        self.common += float((_dot(warped, colour.channels) * mask).sum())
        self.energy_rgb += float((colour.energy * mask).sum())
        self.energy_tir += float((_dot(warped, warped) * mask).sum())

        along_x, along_y = self.jacobian
        xx = (colour.across_across * weight).ravel()
        xy = (colour.across_down * weight).ravel()
        yy = (colour.down_down * weight).ravel()
        self.matrix += (along_x * xx + along_y * xy) @ along_x.T
        self.matrix += (along_x * xy + along_y * yy) @ along_y.T
        self.vector += along_x @ (_dot(colour.across, error) * weight).ravel()
        self.vector += along_y @ (_dot(colour.down, error) * weight).ravel()

    def correlation(self) -> float:
        """Return the correlation of both images, over all frames."""
        return self.common / float(np.sqrt(self.energy_rgb * self.energy_tir))

    def solve(self) -> NDArray[np.float64]:
        """Return the step."""
        count = len(self.vector)
        damping = DAMPING * float(np.trace(self.matrix)) / count + 1e-9
        step = np.linalg.solve(self.matrix + damping * np.eye(count), self.vector)
        return step.astype(np.float64)


def _dot(first: Field, second: Field) -> Plane:
    """Return the scalar product at each pixel."""
    return np.einsum("hwc,hwc->hw", first, second)
