"""Hierarchical distillation: a student learns from its teacher's tokens and response map."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int
from rgbt_fusion.losses.localization import LocalizationLoss, focal_heatmap_loss
from rgbt_fusion.shapes import check_indices, check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "DistillationTerms",
    "FeatureDistillationLoss",
    "HierarchicalDistillationLoss",
    "LayerSet",
    "ResponseDistillationLoss",
    "ResponseForm",
    "concatenate_streams",
]

LayerSet = Literal["even", "first_half", "last_half", "all"]
"""Which of the student's layers are compared."""

ResponseForm = Literal["logits", "literal"]
"""The response loss on logits, or equation 19 as printed."""

Given = TypeVar("Given")


class DistillationTerms(NamedTuple):
    """The weighted ``total`` and its terms without their weights, all scalars.

    A term of weight 0 is 0.
    """

    total: Tensor
    focal: Tensor
    giou: Tensor
    l1: Tensor
    response: Tensor
    feature: Tensor


def concatenate_streams(
    rgb: Tensor, tir: Tensor, indices: Tensor | None = None, *, template_length: int = 0
) -> Tensor:
    r"""Lay a two-stream teacher's tokens out as the student has them: RGB first, then TIR.

    .. math::
        H_{t_{Fus}} = [H_{t_{RGB}};\ H_{t_{TIR}}]

    Paper and code: a student that eliminated candidates is compared on the tokens that survived.
    Give their ``indices`` in the search grid and how many template tokens lead each stream.

    Args:
        rgb: the teacher's tokens of the RGB stream.
        tir: the teacher's tokens of the TIR stream.
        indices: places of the student's surviving search tokens, the same in both streams; all by
            default.
        template_length: tokens T that are never eliminated.

    Shape:
        - rgb, tir: ``(B, T + S, C)``
        - indices: int64 ``(B, K)``
        - returns ``(B, 2 * (T + K), C)``; without ``indices``, K is S

    Raises:
        ShapeError: ``tir`` differs from ``rgb`` in shape, or ``indices`` is not ``(B, K)``.
        TypeError: ``rgb`` or ``tir`` is not a tensor, or ``indices`` is not int64.
        ValueError: ``template_length`` is out of range.

    Example:
        >>> import torch
        >>> from rgbt_fusion.losses.distillation import concatenate_streams
        >>> rgb, tir = torch.arange(4.0).view(1, 4, 1), torch.arange(10.0, 14.0).view(1, 4, 1)
        >>> kept = concatenate_streams(rgb, tir, torch.tensor([[0, 2]]), template_length=1)
        >>> kept.flatten().tolist()
        [0.0, 1.0, 3.0, 10.0, 11.0, 13.0]

    Source:
        Luo et al., "From Two-Stream to One-Stream", eq. 17.
    """
    sizes = check_shape(rgb, "B L C", name="rgb")
    check_same_shape(tir, rgb, name="tir", like_name="rgb")
    if indices is None:
        return torch.cat((rgb, tir), dim=1)
    kept = check_shape(indices, "B K", B=sizes["B"], name="indices")["K"]
    check_indices(indices, name="indices")
    if not 0 <= template_length <= sizes["L"] - kept:
        rule = f"in [0, {sizes['L'] - kept}], what {kept} of {sizes['L']} tokens leave"
        raise ValueError(f"template_length must be {rule}, got {template_length}")
    template = torch.arange(template_length, device=indices.device).expand(sizes["B"], -1)
    places = torch.cat((template, template_length + indices), dim=1).unsqueeze(-1)
    places = places.expand(-1, template_length + kept, sizes["C"])
    return torch.cat((rgb.gather(1, places), tir.gather(1, places)), dim=1)


class FeatureDistillationLoss(TypedModule):
    r"""Pull a student's tokens towards its teacher's at chosen layers, deeper layers more.

    .. math::
        \mathcal{L}_{MF} = \sum_{l \in \text{layers}}
        l\, \mathrm{mean}\big((H_t^{\tau(l)} - H_s^{l} W_l)^2\big),
        \qquad \tau(l) = \left\lceil l\, \frac{L_t}{L_s} \right\rceil

    Layers are numbered from 1 in the equation; the attributes ``student_layers`` and
    ``teacher_layers`` count blocks from 0, as ``encode(..., layers=...)`` of a model does.

    Paper and code: the paper has two networks of one depth and width, tau(l) = l and no W. For
    another depth the student's layer l learns from the teacher layer at the same relative depth,
    rounded up, and is weighted by the student's l. For another width W_l is a learned linear layer
    from student to teacher. The teacher gets no gradient. The difference is taken in float32 at
    least.

    Args:
        student_depth: encoder layers of the student.
        teacher_depth: encoder layers of the teacher.
        student_dim: channels of the student's tokens.
        teacher_dim: channels of the teacher's tokens.
        layers: ``"even"`` (2, 4, ...; the paper's best), ``"first_half"``, ``"last_half"``,
            ``"all"``, or the student's layer numbers, counted from 1.

    Shape:
        - student: one ``(B, N, student_dim)`` per chosen layer, in ascending order
        - teacher: one ``(B, N, teacher_dim)`` per chosen layer, see :func:`concatenate_streams`
        - returns a scalar, float32 or float64

    Raises:
        ShapeError: a feature of ``student`` or ``teacher`` does not have the shape above.
        TypeError: ``student`` or ``teacher`` is not a sequence of tensors, or a depth or a number
            of channels is not a whole number.
        ValueError: ``student`` or ``teacher`` does not hold one feature per chosen layer, or
            ``layers`` is unknown, empty, repeated, unsorted or outside the depth.

    Example:
        >>> import torch
        >>> from rgbt_fusion import FeatureDistillationLoss
        >>> loss = FeatureDistillationLoss(student_depth=4, student_dim=8, teacher_dim=8)
        >>> loss.layer_numbers, loss.teacher_layers  # layers 2 and 4 of 4 learn from 6 and 12 of 12
        ((2, 4), (5, 11))
        >>> loss([torch.zeros(1, 10, 8)] * 2, [torch.ones(1, 10, 8)] * 2)  # 2 * 1 + 4 * 1
        tensor(6.)

    Source:
        Luo et al., "From Two-Stream to One-Stream", eq. 18 and Table 5.
    """

    def __init__(
        self,
        *,
        student_depth: int = 12,
        teacher_depth: int = 12,
        student_dim: int = 768,
        teacher_dim: int = 768,
        layers: LayerSet | Sequence[int] = "even",
    ) -> None:
        super().__init__()
        self.student_depth = check_positive_int(student_depth, name="student_depth")
        self.teacher_depth = check_positive_int(teacher_depth, name="teacher_depth")
        self.student_dim = check_positive_int(student_dim, name="student_dim")
        self.teacher_dim = check_positive_int(teacher_dim, name="teacher_dim")
        self.layer_numbers = _layer_numbers(layers, student_depth)
        self.student_layers = tuple(number - 1 for number in self.layer_numbers)
        # ceil(l * L_t / L_s) - 1
        self.teacher_layers = tuple(
            -(-number * teacher_depth // student_depth) - 1 for number in self.layer_numbers
        )
        self.projections = nn.ModuleList(
            nn.Identity() if student_dim == teacher_dim else nn.Linear(student_dim, teacher_dim)
            for _ in self.layer_numbers
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare one feature ``(B, N, C)`` of each network per chosen layer; return a scalar."""
        self._check_features(student, name="student")
        self._check_features(teacher, name="teacher")
        terms: list[Tensor] = []
        for number, project, ours, theirs in zip(
            self.layer_numbers, self.projections, student, teacher, strict=True
        ):
            sizes = check_shape(ours, "B N C", C=self.student_dim, name=f"student layer {number}")
            same = {"B": sizes["B"], "N": sizes["N"], "C": self.teacher_dim}
            check_shape(theirs, "B N C", name=f"teacher for student layer {number}", **same)
            projected = project(ours)
            precise = torch.promote_types(projected.dtype, torch.float32)
            terms.append(number * F.mse_loss(projected.to(precise), theirs.detach().to(precise)))
        return torch.stack(terms).sum()

    def _check_features(self, features: Sequence[Tensor], *, name: str) -> None:
        if not isinstance(features, Sequence):
            raise TypeError(f"{name} must be a sequence of tensors, got {type(features).__name__}")
        if len(features) != len(self.layer_numbers):
            expected = f"one tensor for each of the layers {self.layer_numbers}"
            raise ValueError(f"{name} must hold {expected}, got {len(features)}")

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"student_depth={self.student_depth}, teacher_depth={self.teacher_depth}, "
            f"student_dim={self.student_dim}, teacher_dim={self.teacher_dim}, "
            f"layers={self.layer_numbers}"
        )


class ResponseDistillationLoss(TypedModule):
    r"""Pull a student's response map towards its teacher's.

    It counts most where the teacher is sure and the student differs.

    .. math::
        q = \sigma(R_t / \tau), \quad p = \sigma(R_s / \tau), \qquad
        \mathcal{L}_{RM} = \frac{\tau^2}{\max(1, \sum q)} \sum |q - p|^2\, \mathrm{BCE}(p, q)

    Paper and code: eq. 19 divides *probabilities* by tau and applies the focal loss. No cell of a
    halved map is a positive then, and a student that answers 0 everywhere minimises the loss,
    whatever the teacher says. The default works on logits, as temperatures do; it is zero where
    student and teacher agree, and nowhere smaller. ``form="literal"`` keeps eq. 19 as printed, for
    study.

    Args:
        temperature: ``tau``; larger looks more at the faint cells.
        form: ``"logits"``, or ``"literal"`` for eq. 19 as printed.

    Shape:
        - student_logits, teacher_logits: any one shape, before the sigmoid
        - normalizer: a scalar that takes the place of ``max(1, sum q)``, such as its mean over the
          ranks of a distributed training
        - returns a scalar, float32 or float64

    Raises:
        ShapeError: ``teacher_logits`` differs from ``student_logits`` in shape.
        TypeError: ``student_logits`` or ``teacher_logits`` is not a tensor, or ``temperature`` is
            not a number.
        ValueError: ``temperature`` is not above 0, or ``form`` is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ResponseDistillationLoss
        >>> teacher = torch.tensor([[[[4.0, -4.0]]]])
        >>> ResponseDistillationLoss()(teacher, teacher).item()
        0.0

    Source:
        Luo et al., "From Two-Stream to One-Stream", eq. 19; the focal weight of Li et al.,
        "Generalized Focal Loss", NeurIPS 2020, eq. 4.
    """

    def __init__(self, *, temperature: float = 2.0, form: ResponseForm = "logits") -> None:
        super().__init__()
        self.temperature = check_finite_number(temperature, name="temperature", low=0.0)
        if self.temperature == 0:
            raise ValueError("temperature must be above 0, got 0")
        check_choice(form, get_args(ResponseForm), name="form")
        self.form: ResponseForm = form

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, *, normalizer: Tensor | None = None
    ) -> Tensor:
        """Compare two maps of logits, of one shape; return a scalar."""
        if not isinstance(student_logits, Tensor):
            raise TypeError(f"student_logits must be a tensor, got {type(student_logits).__name__}")
        check_same_shape(
            teacher_logits, student_logits, name="teacher_logits", like_name="student_logits"
        )
        precise = torch.promote_types(student_logits.dtype, torch.float32)
        student = student_logits.to(precise)
        teacher = teacher_logits.detach().to(precise)
        if self.form == "literal":
            return focal_heatmap_loss(
                student.sigmoid() / self.temperature,
                teacher.sigmoid() / self.temperature,
                num_positives=normalizer,
            )
        student = student / self.temperature
        target = (teacher / self.temperature).sigmoid()
        entropy = F.binary_cross_entropy_with_logits(student, target, reduction="none")
        mass = target.sum().clamp(min=1) if normalizer is None else normalizer
        error = (target - student.sigmoid()).square()
        return self.temperature**2 * (error * entropy).sum() / mass

    def extra_repr(self) -> str:
        """Show the options."""
        return f"temperature={self.temperature}, form={self.form!r}"


class HierarchicalDistillationLoss(TypedModule):
    r"""Train a student on its boxes, its teacher's response and its teacher's tokens at once.

    .. math::
        \mathcal{L}_s = \mathcal{L}_{focal} + \lambda_{giou} \mathcal{L}_{giou}
        + \lambda_{1} \mathcal{L}_{1} + \lambda_{RM} \mathcal{L}_{RM}
        + \lambda_{MF} \mathcal{L}_{MF}

    Paper and code: a weight of 0 leaves its term out (Table 4: response only, features only), whose
    inputs may then be absent.

    Args:
        feature: the feature loss, for its depths, channels and layers; the paper's by default.
        response: the response loss, on logits by default.
        localization: the loss on the ground truth; OSTrack's by default.
        response_weight: weight of the response loss.
        feature_weight: weight of the feature loss.

    Shape:
        - score_map, box_cxcywh_unit, target_cxcywh_unit: see :class:`LocalizationLoss`
        - student_logits, teacher_logits: ``(B, 1, S, S)``, see :class:`ResponseDistillationLoss`
        - student_features, teacher_features: see :class:`FeatureDistillationLoss`
        - num_positives, response_normalizer: scalars, the divisors of a distributed training
        - returns :class:`DistillationTerms` of scalars

    Raises:
        ShapeError, TypeError: as the three losses.
        ValueError: ``response_weight`` or ``feature_weight`` is negative, or an input that a term
            of positive weight needs is absent.

    Example:
        >>> import torch
        >>> from rgbt_fusion import HierarchicalDistillationLoss
        >>> loss = HierarchicalDistillationLoss(feature_weight=0.0)  # response only
        >>> box = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
        >>> score = torch.full((1, 1, 16, 16), 0.1)
        >>> logits = score.logit()
        >>> terms = loss(score, box, box, student_logits=logits, teacher_logits=logits)
        >>> terms.response.item(), terms.feature.item()  # they agree; left out
        (0.0, 0.0)

    Source:
        Luo et al., "From Two-Stream to One-Stream", eq. 21 and section 4.1.2.
    """

    def __init__(
        self,
        *,
        feature: FeatureDistillationLoss | None = None,
        response: ResponseDistillationLoss | None = None,
        localization: LocalizationLoss | None = None,
        response_weight: float = 0.7,
        feature_weight: float = 0.035,
    ) -> None:
        super().__init__()
        self.feature = feature or FeatureDistillationLoss()
        self.response = response or ResponseDistillationLoss()
        self.localization = localization or LocalizationLoss()
        self.response_weight = check_finite_number(response_weight, name="response_weight", low=0.0)
        self.feature_weight = check_finite_number(feature_weight, name="feature_weight", low=0.0)

    def forward(
        self,
        score_map: Tensor,
        box_cxcywh_unit: Tensor,
        target_cxcywh_unit: Tensor,
        *,
        student_logits: Tensor | None = None,
        teacher_logits: Tensor | None = None,
        student_features: Sequence[Tensor] | None = None,
        teacher_features: Sequence[Tensor] | None = None,
        num_positives: Tensor | None = None,
        response_normalizer: Tensor | None = None,
    ) -> DistillationTerms:
        """Compare the student with the targets, ``(B, 4)``, and with its teacher."""
        total, focal, giou, l1 = self.localization(
            score_map, box_cxcywh_unit, target_cxcywh_unit, num_positives=num_positives
        )
        response = feature = torch.zeros_like(total)
        if self.response_weight:
            response = self.response(
                _needed(student_logits, name="student_logits", weight="response_weight"),
                _needed(teacher_logits, name="teacher_logits", weight="response_weight"),
                normalizer=response_normalizer,
            )
        if self.feature_weight:
            feature = self.feature(
                _needed(student_features, name="student_features", weight="feature_weight"),
                _needed(teacher_features, name="teacher_features", weight="feature_weight"),
            )
        total = total + self.response_weight * response + self.feature_weight * feature
        return DistillationTerms(total, focal, giou, l1, response, feature)

    def extra_repr(self) -> str:
        """Show the weights; the options of the losses stand beside them."""
        return f"response_weight={self.response_weight}, feature_weight={self.feature_weight}"


def _needed(given: Given | None, *, name: str, weight: str) -> Given:
    """Return an input that a term of positive weight needs."""
    if given is None:
        raise ValueError(f"{name} must be given unless {weight} is 0, got None")
    return given


def _layer_numbers(layers: LayerSet | Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the student's chosen layers, counted from 1, ascending."""
    if isinstance(layers, str):
        numbers = _layers_of_set(layers, depth)
    else:
        numbers = tuple(layers)
    is_ascending = list(numbers) == sorted(set(numbers))
    if not numbers or not is_ascending or numbers[0] < 1 or numbers[-1] > depth:
        rule = f"ascending layer numbers in [1, {depth}], at least one"
        raise ValueError(f"layers must give {rule}, got {layers!r}")
    return numbers


def _layers_of_set(layers: LayerSet, depth: int) -> tuple[int, ...]:
    check_choice(layers, get_args(LayerSet), name="layers")
    every = tuple(range(1, depth + 1))
    if layers == "even":
        return every[1::2]
    if layers == "first_half":
        return every[: depth // 2]
    if layers == "last_half":
        return every[depth // 2 :]
    return every
