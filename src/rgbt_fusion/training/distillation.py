"""Train a student on its boxes, its teacher's response map and its teacher's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from rgbt_fusion.alignment.aligned_frames import AlignmentLike
from rgbt_fusion.checks import check_choice, check_finite_number
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.token_selection import restore_tokens
from rgbt_fusion.losses.distillation import (
    FeatureDistillationLoss,
    HierarchicalDistillationLoss,
    LayerSet,
    ResponseDistillationLoss,
    ResponseForm,
)
from rgbt_fusion.models.interface import (
    Encoding,
    LayerTokens,
    ModelOutput,
    ask,
    check_model,
    embed_template,
)
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.training.config import TrainConfig
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.loop import (
    OnProgress,
    TrainResult,
    open_and_train,
)
from rgbt_fusion.training.objective import (
    TrainingObjective,
    localization_loss,
    mean_iou,
    shared_positives,
)
from rgbt_fusion.training.samples import Batch, Paths
from rgbt_fusion.weights.checkpoints import load_model

__all__ = [
    "DistillConfig",
    "DistillationObjective",
    "MatchedTokens",
    "TeacherAnswer",
    "distill",
    "match_tokens",
]

TeacherPrecision: TypeAlias = Literal["float32", "bfloat16", "float16"]

_AUTOCAST: dict[TeacherPrecision, torch.dtype | None] = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """Everything that decides what a distillation computes.

    It holds the settings of the student's :class:`TrainConfig` and these.

    Args:
        layers: at which of the student's layers tokens are compared: ``"even"``,
            ``"first_half"``, ``"last_half"`` or ``"all"``; see
            :class:`~rgbt_fusion.losses.distillation.FeatureDistillationLoss`.
        response_weight: weight of the response loss; 0 leaves it out.
        feature_weight: weight of the feature loss; 0 leaves it out.
        temperature: temperature of the response loss.
        response_form: ``"logits"`` or ``"literal"``; see
            :class:`~rgbt_fusion.losses.distillation.ResponseDistillationLoss`.
        teacher_precision: autocast's precision for the teacher.

    Raises:
        ValueError: a value is out of range, or two values contradict each other.
        TypeError: a value is not a number where one is needed.

    Example:
        >>> from rgbt_fusion.training import DistillConfig
        >>> DistillConfig(model="one_stream_student_tiny_128").response_weight
        0.7
    """

    layers: LayerSet = "even"
    response_weight: float = 0.7
    feature_weight: float = 0.035
    temperature: float = 2.0
    response_form: ResponseForm = "logits"
    teacher_precision: TeacherPrecision = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.layers, get_args(LayerSet), name="layers")
        check_finite_number(self.response_weight, name="response_weight", low=0.0)
        check_finite_number(self.feature_weight, name="feature_weight", low=0.0)
        check_finite_number(self.temperature, name="temperature", low=1e-3)
        check_choice(self.response_form, get_args(ResponseForm), name="response_form")
        check_choice(self.teacher_precision, _AUTOCAST, name="teacher_precision")
        if not self.response_weight and not self.feature_weight:
            raise ValueError(
                "response_weight and feature_weight must not both be 0: nothing would be distilled"
            )


def distill(
    config: DistillConfig,
    *,
    teacher: str | Path | nn.Module,
    model: nn.Module | None = None,
    out: str | Path,
    data: Paths | None = None,
    names: Paths | None = None,
    validation_names: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    tensorboard: bool = False,
    on_progress: OnProgress | None = None,
    align: AlignmentLike | None = None,
) -> TrainResult:
    """Train a student with the help of a teacher, or resume an interrupted distillation.

    Any two networks can be teacher and student if they take crops of the same sizes. Their
    responses must have the same grid, and their tokens can be compared where both are a
    ``TrackingNetwork``. The teacher sees each batch once, without gradient and without eliminating
    candidates. All else is as in ``train``.

    Paper and code: the paper has one student and one teacher. Here a student of one stream without
    a TIR half is compared with the mean of the teacher's two streams, and both streams of a student
    are compared with the only stream of a teacher. Tokens that either of the two eliminated are not
    compared.

    Args:
        config: what is trained and how.
        teacher: a network, or a file of this library that holds one.
        model: a student of your own, for a config with ``model="given"``; see ``train``.
        out: the folder of the distillation; see ``train``.
        data: see ``train``.
        names: see ``train``.
        validation_names: see ``train``.
        start_from: a file of weights that the student starts from.
        device: see ``train``.
        tensorboard: see ``train``.
        on_progress: see ``train``.
        align: see ``train``.

    Raises:
        ValueError: ``teacher`` takes crops of other sizes than the student, or ``feature_weight``
            is not 0 for a network without tokens; otherwise as ``train``.
        TrainingError, CheckpointError, DataError, OSError: as ``train``.

    Example:
        >>> import tempfile
        >>> from rgbt_fusion import create_model
        >>> from rgbt_fusion.training import DataConfig, DistillConfig, distill
        >>> config = DistillConfig(
        ...     model="one_stream_student_tiny_128",
        ...     steps=1,
        ...     batch_size=2,
        ...     data=DataConfig(workers=0),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     teacher = create_model("mutual_prompt_teacher_tiny_128")
        ...     sorted(distill(config, teacher=teacher, out=folder, device="cpu").values)[:2]
        ['feature', 'focal']

    Source:
        Luo et al., "From Two-Stream to One-Stream", 2024, section 3.4.
    """

    def new_objective(
        student: nn.Module, processes: Processes, where: torch.device
    ) -> TrainingObjective:
        master = teacher if isinstance(teacher, nn.Module) else load_model(teacher)
        return DistillationObjective(student, master, config, processes, where)

    return open_and_train(
        config,
        new_objective,
        out=out,
        model=model,
        data=data,
        names=names,
        validation_names=validation_names,
        start_from=start_from,
        device=device,
        tensorboard=tensorboard,
        on_progress=on_progress,
        align=align,
    )


class TeacherAnswer(NamedTuple):
    """What the teacher finds in one search frame."""

    encoding: Encoding | None
    """Its tokens, after the layers that are compared; None for a network without tokens."""
    score_logits: Tensor
    """Its response map before the sigmoid, ``(B, 1, S, S)``."""


class DistillationObjective(TrainingObjective):
    """Find the box in every search frame, as the teacher does.

    Args:
        model: the student.
        teacher: the teacher. It is moved to ``device`` and switched to evaluation mode.
        config: weights, layers and precision.
        processes: the processes that share the batch.
        device: where the training runs.

    Shape:
        - batch: a :class:`Batch`
        - returns scalars by name; ``loss`` carries the gradient, the others are for the log

    Raises:
        ValueError: ``teacher`` takes crops of other sizes than ``model``, or ``feature_weight`` is
            not 0 and one of the two has no tokens.
        TypeError: ``teacher`` lacks what a tracking network must offer.
    """

    names = ("loss", "focal", "giou", "l1", "response", "feature", "iou")

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module,
        config: DistillConfig,
        processes: Processes,
        device: torch.device,
    ) -> None:
        super().__init__(model, processes)
        check_model(teacher, name="teacher")
        _check_pair(model, teacher)
        _check_tokens(model, teacher, config)
        self.loss = _distillation_loss(model, teacher, config)
        dtype = torch.float32
        if config.precision == "float64":
            dtype = torch.float64
            self.loss.double()
        # a tuple hides the teacher: it is neither trained, nor saved, nor shared among processes
        self._teacher = (teacher.to(device, dtype).eval(),)
        self.autocast = _AUTOCAST[config.teacher_precision]
        self.compares_tokens = config.feature_weight > 0

    @property
    def teacher(self) -> Any:
        """The teacher."""
        return self._teacher[0]

    def forward(self, batch: Batch, keep_ratio: float | None = None) -> dict[str, Tensor]:
        """Return the loss and its terms by name, means over the search frames of the clips.

        ``keep_ratio`` is the student's share of candidates that survive; None takes its own.
        """
        template = embed_template(self.model, batch.template)
        answers = self.ask_teacher(batch)
        layers = self.loss.feature.student_layers if self.compares_tokens else ()
        state = None
        rows = []
        frames = zip(batch.searches, batch.boxes_cxcywh_unit, answers, strict=True)
        for search, boxes, answer in frames:
            encoding, out = _answer(self.model, template, search, state, layers, keep_ratio)
            state = out.state
            tokens = None
            if encoding is not None and answer.encoding is not None and self.compares_tokens:
                tokens = self._matched(encoding.layers, answer.encoding.layers)
            terms = self.loss(
                out.score_map,
                out.box_cxcywh_unit,
                boxes,
                student_logits=out.score_logits,
                teacher_logits=answer.score_logits,
                student_features=None if tokens is None else [one.student for one in tokens],
                teacher_features=None if tokens is None else [one.teacher for one in tokens],
                num_positives=shared_positives(boxes, out.score_map.shape[-1], self.processes),
                response_normalizer=self._shared_response_mass(answer.score_logits),
            )
            rows.append(torch.stack((*terms, mean_iou(out.box_cxcywh_unit, boxes))))
        return self.by_name(rows)

    def ask_teacher(self, batch: Batch) -> list[TeacherAnswer]:
        """Return what the teacher finds in each search frame, without gradient."""
        layers = self.loss.feature.teacher_layers if self.compares_tokens else ()
        autocast = torch.autocast(
            batch.template.rgb.device.type,
            dtype=self.autocast,
            enabled=self.autocast is not None,
        )
        state = None
        answers = []
        with torch.no_grad(), autocast:
            template = embed_template(self.teacher, batch.template)
            for search in batch.searches:
                encoding, out = _answer(self.teacher, template, search, state, layers, 1.0)
                state = out.state
                answers.append(TeacherAnswer(encoding, out.score_logits))
        return answers

    def _matched(
        self, student: tuple[LayerTokens, ...], teacher: tuple[LayerTokens, ...]
    ) -> list["MatchedTokens"]:
        """Match the tokens of every compared layer."""
        backbone = self.model.backbone
        return [
            match_tokens(ours, theirs, backbone.template_length, backbone.search_length)
            for ours, theirs in zip(student, teacher, strict=True)
        ]

    def _shared_response_mass(self, logits: Tensor) -> Tensor | None:
        """Return the divisor of the response loss over all processes, None for a single process."""
        if self.processes.count == 1:
            return None
        loss = self.loss.response
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if loss.form == "literal":
            positives = precise.sigmoid() / loss.temperature == 1
            return self.processes.share_of(positives.sum().to(precise.dtype))
        softened = (precise / loss.temperature).sigmoid()
        return self.processes.share_of(softened.sum())


def _answer(
    model: Any,
    template: Any,
    search: ImagePair,
    state: Any,
    layers: Sequence[int],
    keep_ratio: float | None,
) -> tuple[Encoding | None, ModelOutput]:
    """Return the tokens of a network, None where it has none, and its answer."""
    if not isinstance(model, TrackingNetwork):
        return None, ask(model, template, search, state)
    encoding = model.encode(template, search, state, layers, keep_ratio=keep_ratio)
    return encoding, model.answer(encoding)


class MatchedTokens(NamedTuple):
    """Tokens of one layer, place by place: ``(B, N, C)`` each, every one with its own C."""

    student: Tensor
    teacher: Tensor


def match_tokens(
    student: LayerTokens, teacher: LayerTokens, template_length: int, search_length: int
) -> MatchedTokens:
    """Lay the tokens of a teacher out as its student has them.

    The teacher's tokens are brought back to their places in the search grid, then picked at the
    places that the student still has. Where the teacher eliminated a token, both results are 0.

    Args:
        student: the student's tokens after one layer.
        teacher: the teacher's tokens after its layer, of the same template and search grid.
        template_length: number of template tokens ``T``.
        search_length: number of places ``S`` of the search grid.

    Shape:
        - student: ``(B, T + K, C)`` per stream
        - teacher: ``(B, T + M, D)`` per stream
        - returns ``(B, N, C)`` and ``(B, N, D)`` with N = ``T + K``, or twice that for a student of
          two streams

    Example:
        >>> import torch
        >>> from rgbt_fusion.models.interface import LayerTokens
        >>> from rgbt_fusion.training.distillation import match_tokens
        >>> template_and_places_0_2 = torch.tensor([[[9.0], [0.0], [2.0]]])
        >>> student = LayerTokens(template_and_places_0_2, None, torch.tensor([[0, 2]]))
        >>> template_and_places_0_1_2 = torch.tensor([[[5.0], [6.0], [7.0], [8.0]]])
        >>> teacher = LayerTokens(template_and_places_0_1_2, None, torch.tensor([[0, 1, 2]]))
        >>> match_tokens(student, teacher, 1, 3).teacher.flatten().tolist()
        [5.0, 6.0, 8.0]
    """
    places = _places_in_grid(student, template_length)

    def at_the_student(tokens: Tensor) -> Tensor:
        """Pick the tokens ``(B, T + S, ...)`` at the places that the student still has."""
        return tokens.gather(1, places.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

    teacher_rgb = restore_tokens(teacher.rgb, teacher.indices, search_length)
    teacher_tir = teacher_rgb
    if teacher.tir is not None:
        teacher_tir = restore_tokens(teacher.tir, teacher.indices, search_length)
    seen = at_the_student(_seen_by_teacher(teacher, template_length, search_length))
    if student.tir is None:
        ours = student.rgb
        theirs = at_the_student((teacher_rgb + teacher_tir) / 2)
    else:
        ours = torch.cat((student.rgb, student.tir), dim=1)
        theirs = torch.cat((at_the_student(teacher_rgb), at_the_student(teacher_tir)), dim=1)
        seen = torch.cat((seen, seen), dim=1)

    teacher_kept_all = teacher.indices.shape[1] == search_length
    if teacher_kept_all:
        return MatchedTokens(ours, theirs)
    return MatchedTokens(ours * seen.to(ours.dtype), theirs * seen)


def _places_in_grid(tokens: LayerTokens, template_length: int) -> Tensor:
    """Return where each token stands, ``(B, T + K)``: the template first, then the search grid."""
    batch = len(tokens.indices)
    template = torch.arange(template_length, device=tokens.indices.device).expand(batch, -1)
    return torch.cat((template, template_length + tokens.indices), dim=1)


def _seen_by_teacher(teacher: LayerTokens, template_length: int, search_length: int) -> Tensor:
    """Return 1 at the places that the teacher still has and 0 elsewhere, ``(B, T + S, 1)``."""
    places = _places_in_grid(teacher, template_length).unsqueeze(-1)
    seen = teacher.rgb.new_zeros(len(teacher.rgb), template_length + search_length, 1)
    return seen.scatter(1, places, 1)


def _distillation_loss(
    student: nn.Module, teacher: nn.Module, config: DistillConfig
) -> HierarchicalDistillationLoss:
    """Return the loss for a pair of models, with the weights of a config."""
    if isinstance(student, TrackingNetwork) and isinstance(teacher, TrackingNetwork):
        feature = FeatureDistillationLoss(
            student_depth=student.settings.depth,
            teacher_depth=teacher.settings.depth,
            student_dim=student.settings.dim,
            teacher_dim=teacher.settings.dim,
            layers=config.layers,
        )
    else:
        # never called: there are no tokens to compare
        feature = FeatureDistillationLoss(
            student_depth=1, teacher_depth=1, student_dim=1, teacher_dim=1, layers="all"
        )
    if not config.feature_weight:
        feature.requires_grad_(False)
    return HierarchicalDistillationLoss(
        feature=feature,
        response=ResponseDistillationLoss(
            temperature=config.temperature, form=config.response_form
        ),
        localization=localization_loss(config.loss),
        response_weight=config.response_weight,
        feature_weight=config.feature_weight,
    )


def _check_tokens(student: nn.Module, teacher: nn.Module, config: DistillConfig) -> None:
    """Check that both models have tokens where tokens are compared."""
    without = [one for one in (student, teacher) if not isinstance(one, TrackingNetwork)]
    if without and config.feature_weight:
        raise ValueError(
            "feature_weight must be 0 where a network is no TrackingNetwork, whose tokens could be "
            f"compared, got {config.feature_weight} with {type(without[0]).__name__}"
        )


def _check_pair(student: nn.Module, teacher: nn.Module) -> None:
    """Check that both models take the same crops."""
    for name in ("template_size", "search_size", "search_factor"):
        ours = getattr(student, name)
        theirs = getattr(teacher, name)
        if ours != theirs:
            raise ValueError(
                f"teacher must take crops as the student does, {name} = {ours}, got {theirs}"
            )
