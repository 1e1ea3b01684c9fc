"""Hierarchical distillation: a student learns from a teacher's tokens, layer by layer, and from its
response map."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int
from rgbt_fusion.losses.localization import LocalizationLoss, focal_heatmap_loss
from rgbt_fusion.shapes import check_indices, check_same_shape, check_shape

__all__ = [
    "DistillationTerms",
    "FeatureDistillationLoss",
    "HierarchicalDistillationLoss",
    "LayerSet",
    "ResponseDistillationLoss",
    "concatenate_streams",
]

LayerSet = Literal["even", "first_half", "last_half", "all"]


class DistillationTerms(NamedTuple):
    """The weighted ``total`` and the unweighted terms it is made of, scalars; a term of weight 0 is
    0."""

    total: Tensor
    focal: Tensor
    giou: Tensor
    l1: Tensor
    response: Tensor
    feature: Tensor


def concatenate_streams(
    rgb: Tensor, tir: Tensor, indices: Tensor | None = None, *, template_length: int = 0
) -> Tensor:
    r"""Lay a two-stream teacher's tokens out as the one-stream student has them: RGB first, then
    TIR.

    .. math::
        H_{t_{Fus}} = [H_{t_{RGB}};\ H_{t_{TIR}}]

    Where the paper is silent: a student that eliminated candidates is compared on the tokens that
    survived. Give their ``indices`` in the search grid and how many template tokens lead each
    stream.

    Args:
        rgb: the teacher's tokens of the RGB stream.
        tir: those of the TIR stream.
        indices: places of the student's surviving search tokens, int64, the same in both streams;
            all by default.
        template_length: tokens ``T`` that are never eliminated.

    Shape:
        ``(B, T + S, C)`` twice and ``(B, K)`` to ``(B, 2 * (T + K), C)``; without ``indices``, K is
        S.

    Raises:
        ShapeError: the streams differ in shape; ``indices`` of another batch or number of axes.
        ValueError, TypeError: a ``template_length`` out of range; ``indices`` that are not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion.losses.distillation import concatenate_streams
        >>> rgb, tir = torch.arange(4.0).view(1, 4, 1), torch.arange(10.0, 14.0).view(1, 4, 1)
        >>> concatenate_streams(rgb, tir, torch.tensor([[0, 2]]), template_length=1).flatten().tolist()
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


class FeatureDistillationLoss(nn.Module):
    r"""Pull a student's tokens towards its teacher's at chosen layers, deeper layers more.

    .. math::
        \mathcal{L}_{MF} = \sum_{l \in \text{layers}} l\, \mathrm{mean}\big((H_t^{\tau(l)} - H_s^{l} W_l)^2\big),
        \qquad \tau(l) = \left\lceil l\, \frac{L_t}{L_s} \right\rceil

    Layers are numbered from 1 in the equation; the attributes ``student_layers`` and
    ``teacher_layers`` count blocks from 0, as ``encode(..., layers=...)`` of a model does.

    Where the paper is silent: it has two networks of one depth and width, tau(l) = l and no W. For
    another depth the student's layer l learns from the teacher's layer that is at least as far on
    its way, weighted by the student's l; for another width W_l is a learned linear layer from
    student to teacher. The teacher gets no gradient; the difference is taken in float32 at least.

    Args:
        student_depth: encoder layers of the student.
        teacher_depth: encoder layers of the teacher.
        student_width: channels of the student's tokens.
        teacher_width: channels of the teacher's tokens.
        layers: ``"even"`` (2, 4, ...; the paper's best), ``"first_half"``, ``"last_half"``,
            ``"all"``, or the student's layer numbers, counted from 1.

    Shape:
        ``student`` and ``teacher``: one ``(B, N, student_width)`` and one ``(B, N, teacher_width)``
        for each chosen layer, in ascending order (see :func:`concatenate_streams`). Returns a
        scalar, float32 or float64.

    Raises:
        ShapeError: features of other shapes or token counts than the layers say.
        ValueError: not one feature for each chosen layer; layers that are empty, repeated, unsorted
            or outside.

    Example:
        >>> import torch
        >>> from rgbt_fusion import FeatureDistillationLoss
        >>> loss = FeatureDistillationLoss(student_depth=4, student_width=8, teacher_width=16)
        >>> loss.student_layers, loss.teacher_layers
        ((1, 3), (5, 11))
        >>> loss([torch.zeros(1, 10, 8)] * 2, [torch.zeros(1, 10, 16)] * 2).shape
        torch.Size([])

    Source:
        Luo et al., "From Two-Stream to One-Stream", eq. 18 and Table 5.
    """

    def __init__(
        self,
        *,
        student_depth: int = 12,
        teacher_depth: int = 12,
        student_width: int = 768,
        teacher_width: int = 768,
        layers: LayerSet | Sequence[int] = "even",
    ) -> None:
        super().__init__()
        check_positive_int(teacher_depth, name="teacher_depth")
        self.student_width = check_positive_int(student_width, name="student_width")
        self.teacher_width = check_positive_int(teacher_width, name="teacher_width")
        self.layer_numbers = _layer_numbers(
            layers, check_positive_int(student_depth, name="student_depth")
        )
        self.student_layers = tuple(number - 1 for number in self.layer_numbers)
        self.teacher_layers = tuple(
            -(-number * teacher_depth // student_depth) - 1 for number in self.layer_numbers
        )
        self.projections = nn.ModuleList(
            nn.Identity()
            if student_width == teacher_width
            else nn.Linear(student_width, teacher_width)
            for _ in self.layer_numbers
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        for features, name in ((student, "student"), (teacher, "teacher")):
            if not isinstance(features, Sequence):
                raise TypeError(
                    f"{name} must be a sequence of tensors, got {type(features).__name__}"
                )
            if len(features) != len(self.layer_numbers):
                expected = f"one tensor for each of the layers {self.layer_numbers}"
                raise ValueError(f"{name} must hold {expected}, got {len(features)}")
        terms = []
        for number, project, ours, theirs in zip(
            self.layer_numbers, self.projections, student, teacher, strict=True
        ):
            sizes = check_shape(ours, "B N C", C=self.student_width, name=f"student layer {number}")
            same = {"B": sizes["B"], "N": sizes["N"], "C": self.teacher_width}
            check_shape(theirs, "B N C", name=f"teacher for student layer {number}", **same)
            projected = project(ours)
            precise = torch.promote_types(projected.dtype, torch.float32)
            terms.append(number * F.mse_loss(projected.to(precise), theirs.detach().to(precise)))
        return torch.stack(terms).sum()

    def extra_repr(self) -> str:
        return f"student_layers={self.student_layers}, teacher_layers={self.teacher_layers}"


class ResponseDistillationLoss(nn.Module):
    r"""Pull a student's response map towards its teacher's, where the teacher is sure and the
    student differs.

    .. math::
        q = \sigma(R_t / \tau), \quad p = \sigma(R_s / \tau), \qquad
        \mathcal{L}_{RM} = \frac{\tau^2}{\max(1, \sum q)} \sum |q - p|^2\, \mathrm{BCE}(p, q)

    Where the paper is silent: eq. 19 divides *probabilities* by tau and applies the focal loss. No
    cell of a halved map is a positive then, and a student that answers 0 everywhere minimises the
    loss, whatever the teacher says. The default works on logits, as temperatures do, and is
    smallest, zero, where student and teacher agree. ``form="literal"`` keeps eq. 19 as printed, for
    study.

    Args:
        temperature: ``tau``; larger looks more at the faint cells.
        form: ``"logits"``, or ``"literal"`` for eq. 19 as printed.

    Shape:
        ``student_logits`` and ``teacher_logits`` of one shape, before the sigmoid; ``normalizer`` a
        scalar that takes the place of ``max(1, sum q)``, such as its mean over the ranks of a
        distributed training. Returns a scalar, float32 or float64.

    Raises:
        ShapeError, TypeError: the maps differ in shape, or are not tensors.
        ValueError: a temperature that is not above 0; an unknown form.

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

    def __init__(
        self, *, temperature: float = 2.0, form: Literal["logits", "literal"] = "logits"
    ) -> None:
        super().__init__()
        self.temperature = check_finite_number(temperature, name="temperature", low=0.0)
        if self.temperature == 0:
            raise ValueError("temperature must be above 0, got 0")
        check_choice(form, ("logits", "literal"), name="form")
        self.form = form

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, *, normalizer: Tensor | None = None
    ) -> Tensor:
        if not isinstance(student_logits, Tensor):
            raise TypeError(f"student_logits must be a tensor, got {type(student_logits).__name__}")
        check_same_shape(
            teacher_logits, student_logits, name="teacher_logits", like_name="student_logits"
        )
        precise = torch.promote_types(student_logits.dtype, torch.float32)
        student, teacher = student_logits.to(precise), teacher_logits.detach().to(precise)
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
        return self.temperature**2 * ((target - student.sigmoid()).square() * entropy).sum() / mass

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, form={self.form!r}"


class HierarchicalDistillationLoss(nn.Module):
    r"""Train a student on its boxes, its teacher's response and its teacher's tokens at once.

    .. math::
        \mathcal{L}_s = \mathcal{L}_{focal} + \lambda_{giou} \mathcal{L}_{giou} + \lambda_{1} \mathcal{L}_{1}
        + \lambda_{RM} \mathcal{L}_{RM} + \lambda_{MF} \mathcal{L}_{MF}

    Where the paper is silent: a weight of 0 leaves its term out (Table 4: response only, features
    only), whose inputs may then be absent.

    Args:
        feature: the feature loss, for its depths, widths and layers; the paper's by default.
        response: the response loss; the paper's by default.
        localization: the loss on the ground truth; OSTrack's by default.
        response_weight: weight of the response loss.
        feature_weight: weight of the feature loss.

    Shape:
        ``score_map``, ``box_cxcywh_unit``, ``target_cxcywh_unit``: see :class:`LocalizationLoss`;
        ``student_logits``, ``teacher_logits`` ``(B, 1, S, S)``: see
        :class:`ResponseDistillationLoss`; ``student_features``, ``teacher_features``: see
        :class:`FeatureDistillationLoss`; ``num_positives``, ``response_normalizer``: the divisors
        of a distributed training. Returns ``DistillationTerms`` of scalars.

    Raises:
        ValueError: a negative weight; an input that a term of positive weight needs is absent.
        ShapeError, TypeError: see the three losses.

    Example:
        >>> import torch
        >>> from rgbt_fusion import HierarchicalDistillationLoss
        >>> loss = HierarchicalDistillationLoss(feature_weight=0.0)
        >>> box, score = torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.full((1, 1, 16, 16), 0.1)
        >>> loss(score, box, box, student_logits=score.logit(), teacher_logits=score.logit()).response.item()
        0.0

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
        total, focal, giou, l1 = self.localization(
            score_map, box_cxcywh_unit, target_cxcywh_unit, num_positives=num_positives
        )
        response = feature = torch.zeros_like(total)
        if self.response_weight:
            given = _both(student_logits, teacher_logits, term="response", names="logits")
            response = self.response(*given, normalizer=response_normalizer)
        if self.feature_weight:
            given = _both(student_features, teacher_features, term="feature", names="features")
            feature = self.feature(*given)
        total = total + self.response_weight * response + self.feature_weight * feature
        return DistillationTerms(total, focal, giou, l1, response, feature)

    def extra_repr(self) -> str:
        return f"response_weight={self.response_weight}, feature_weight={self.feature_weight}"


def _layer_numbers(layers: LayerSet | Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the student's chosen layers, counted from 1, ascending."""
    if isinstance(layers, str):
        every = tuple(range(1, depth + 1))
        sets = {
            "even": every[1::2],
            "first_half": every[: depth // 2],
            "last_half": every[depth // 2 :],
            "all": every,
        }
        check_choice(layers, sets, name="layers")
        numbers = sets[layers]
    else:
        numbers = tuple(layers)
    if (
        not numbers
        or list(numbers) != sorted(set(numbers))
        or not 1 <= numbers[0] <= numbers[-1] <= depth
    ):
        rule = f"ascending layer numbers in [1, {depth}], at least one"
        raise ValueError(f"layers must give {rule}, got {layers!r}")
    return numbers


def _both(student: object, teacher: object, *, term: str, names: str) -> tuple[object, object]:
    for given, owner in ((student, "student"), (teacher, "teacher")):
        if given is None:
            raise ValueError(f"{owner}_{names} must be given unless {term}_weight is 0, got None")
    return student, teacher
