"""Distillation: a student trained on its boxes, its teacher's response map and its teacher's
tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number
from rgbt_fusion.layers.token_selection import restore_tokens
from rgbt_fusion.losses.distillation import (
    FeatureDistillationLoss,
    HierarchicalDistillationLoss,
    ResponseDistillationLoss,
    concatenate_streams,
)
from rgbt_fusion.models.head import clamped_sigmoid, decode_box
from rgbt_fusion.models.interface import Encoding, LayerTokens, ModelOutput
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.training.config import TrainConfig
from rgbt_fusion.training.distributed import Processes, join_processes
from rgbt_fusion.training.loop import (
    OnProgress,
    TrainResult,
    build_model,
    pick_device,
    run_training,
    undisturbed,
)
from rgbt_fusion.training.objective import localization_loss, mean_iou, shared_positives
from rgbt_fusion.training.samples import Batch, Sampler, open_clips
from rgbt_fusion.weights.checkpoints import load_model

__all__ = ["DistillConfig", "DistillationObjective", "distill", "match_tokens"]

TEACHER_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """All that decides what a distillation computes: a :class:`TrainConfig` of the student, and
    these.

    Args:
        layers: ``"even"``, ``"first_half"``, ``"last_half"`` or ``"all"``: at which of the
            student's layers tokens are compared; see
            :class:`~rgbt_fusion.losses.distillation.FeatureDistillationLoss`.
        response_weight: weight of the response loss; 0 leaves it out.
        feature_weight: weight of the feature loss; 0 leaves it out.
        temperature: of the response loss.
        response_form: ``"logits"`` or ``"literal"``.
        teacher_precision: autocast's precision for the teacher.
        TrainConfig's: see there.

    Raises:
        ValueError, TypeError: a value out of range, or two that contradict each other.

    Example:
        >>> from rgbt_fusion.training import DistillConfig
        >>> DistillConfig(model="one_stream_student_tiny_128").response_weight
        0.7
    """

    layers: str = "even"
    response_weight: float = 0.7
    feature_weight: float = 0.035
    temperature: float = 2.0
    response_form: str = "logits"
    teacher_precision: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.layers, ("even", "first_half", "last_half", "all"), name="layers")
        check_finite_number(self.response_weight, name="response_weight", low=0.0)
        check_finite_number(self.feature_weight, name="feature_weight", low=0.0)
        check_finite_number(self.temperature, name="temperature", low=1e-3)
        check_choice(self.response_form, ("logits", "literal"), name="response_form")
        check_choice(self.teacher_precision, TEACHER_PRECISIONS, name="teacher_precision")
        if not self.response_weight and not self.feature_weight:
            raise ValueError(
                "response_weight and feature_weight must not both be 0: nothing would be distilled"
            )


def distill(
    config: DistillConfig,
    *,
    teacher: str | Path | TrackingNetwork,
    out: str | Path,
    data: str | Path = "synthetic",
    names: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    tensorboard: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train a student with the help of a teacher, or go on with a distillation that was
    interrupted.

    Any two models of this package that take crops of the same sizes can be teacher and student. The
    teacher sees each batch once, without gradient and without eliminating candidates; otherwise
    this is ``train``.

    Where the paper is silent: a student of one stream without a TIR half is compared with the mean
    of a teacher's two streams, and a student of two streams with a teacher's only one twice. Tokens
    that either of them eliminated are not compared.

    Args:
        config: what is trained and how.
        teacher: a model, or a file of ours that holds one.
        out: the folder of the distillation; see ``train``.
        data: see ``train``.
        names: see ``train``.
        start_from: a file of weights that the student starts from.
        device: see ``train``.
        tensorboard: see ``train``.
        on_progress: see ``train``.

    Raises:
        ValueError: teacher and student take crops of different sizes; otherwise as ``train``.
        TrainingError, CheckpointError, DataError, OSError: as ``train``.

    Example:
        >>> import tempfile
        >>> from rgbt_fusion import create_model
        >>> from rgbt_fusion.training import DataConfig, DistillConfig, distill
        >>> data = DataConfig(workers=0)
        >>> config = DistillConfig(model="one_stream_student_tiny_128", steps=1, batch_size=2, data=data)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     teacher = create_model("mutual_prompt_teacher_tiny_128")
        ...     sorted(distill(config, teacher=teacher, out=folder, device="cpu").values)[:2]
        ['feature', 'focal']

    Source:
        Luo et al., "From Two-Stream to One-Stream", 2024, section 3.4.
    """
    where = pick_device(device)
    with join_processes(where) as processes, undisturbed(where):
        clips = open_clips(config, data, names=names)
        student = build_model(config, start_from)
        master = teacher if isinstance(teacher, TrackingNetwork) else load_model(teacher)
        objective = DistillationObjective(student, master, config, processes, where)
        sampler = Sampler.of(config, clips, student)
        return run_training(
            config,
            objective,
            sampler,
            out=Path(out),
            device=where,
            processes=processes,
            tensorboard=tensorboard,
            on_progress=on_progress,
        )


class DistillationObjective(nn.Module):
    """Find the box in every search frame as the teacher does.

    Args:
        model: the student.
        teacher: the teacher; it is moved to ``device`` and switched to evaluation.
        config: weights and layers.
        processes: those that share the batch.
        device: where the training runs.

    Raises:
        ValueError: the two take crops of different sizes.
    """

    names = ("loss", "focal", "giou", "l1", "response", "feature", "iou")

    def __init__(
        self,
        model: TrackingNetwork,
        teacher: TrackingNetwork,
        config: DistillConfig,
        processes: Processes,
        device: torch.device,
    ) -> None:
        super().__init__()
        _check_pair(model, teacher)
        self.model = model
        self.loss = _make_loss(model, teacher, config)
        if config.precision == "float64":
            self.loss.double()
        dtype = torch.float64 if config.precision == "float64" else torch.float32
        # in a tuple: it is neither trained, nor saved, nor shared among processes
        self.teacher = (teacher.to(device, dtype).eval(),)
        self.autocast = TEACHER_PRECISIONS[config.teacher_precision]
        self.compares_tokens = config.feature_weight > 0
        self.processes = processes

    def forward(self, batch: Batch, keep_ratio: float | None = None) -> dict[str, Tensor]:
        """Return the loss and what it is made of, means over the frames of the clips."""
        template = self.model.embed_template(batch.template)
        answers = self._ask_teacher(batch)
        layers = self.loss.feature.student_layers if self.compares_tokens else ()
        state, rows = None, []
        for search, boxes, (lesson, response) in zip(
            batch.searches, batch.boxes_cxcywh_unit, answers, strict=True
        ):
            encoding = self.model.encode(template, search, state, layers, keep_ratio=keep_ratio)
            state = encoding.state
            out = _answer(self.model, encoding)
            terms = self.loss(
                out.score_map,
                out.box_cxcywh_unit,
                boxes,
                student_logits=out.score_logits,
                teacher_logits=response,
                num_positives=shared_positives(boxes, out.score_map.shape[-1], self.processes),
                response_normalizer=self._shared_mass(response),
                **self._tokens(encoding, lesson),
            )
            rows.append(torch.stack((*terms, mean_iou(out.box_cxcywh_unit, boxes))))
        return dict(zip(self.names, torch.stack(rows).mean(0).unbind(), strict=True))

    def _ask_teacher(self, batch: Batch) -> list[tuple[Encoding, Tensor]]:
        """Return what the teacher finds in each search frame, and its score logits."""
        teacher, answers, state = self.teacher[0], [], None
        layers = self.loss.feature.teacher_layers if self.compares_tokens else ()
        device = batch.template.rgb.device.type
        with (
            torch.no_grad(),
            torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None),
        ):
            template = teacher.embed_template(batch.template)
            for search in batch.searches:
                encoding = teacher.encode(template, search, state, layers, keep_ratio=1.0)
                state = encoding.state
                answers.append((encoding, teacher.box_head(encoding.features).score_logits))
        return answers

    def _tokens(self, student: Encoding, teacher: Encoding) -> dict[str, Any]:
        if not self.compares_tokens:
            return {}
        pairs = [
            match_tokens(
                ours, theirs, self.model.backbone.template_length, self.model.backbone.search_length
            )
            for ours, theirs in zip(student.layers, teacher.layers, strict=True)
        ]
        return {
            "student_features": [pair[0] for pair in pairs],
            "teacher_features": [pair[1] for pair in pairs],
        }

    def _shared_mass(self, response: Tensor) -> Tensor | None:
        """Return the response loss's divisor over all processes; None for one process alone."""
        if self.processes.count == 1:
            return None
        loss = self.loss.response
        precise = response.to(torch.promote_types(response.dtype, torch.float32))
        if loss.form == "literal":
            return self.processes.share_of(
                (precise.sigmoid() / loss.temperature == 1).sum().to(precise.dtype)
            )
        return self.processes.share_of((precise / loss.temperature).sigmoid().sum())


def match_tokens(
    student: LayerTokens, teacher: LayerTokens, template_length: int, search_length: int
) -> tuple[Tensor, Tensor]:
    """Return a student's tokens of one layer and those of its teacher that belong to them, of as
    many streams.

    Args:
        student: tokens of ``T + K`` places.
        teacher: tokens of the same template and search grid; those it eliminated are 0 in both
            results.
        template_length: ``T``.
        search_length: places ``S`` of the search grid.

    Shape:
        two ``(B, streams * (T + K), C)``, each of its own C.
    """
    rgb = restore_tokens(teacher.rgb, teacher.indices, search_length)
    tir = (
        rgb if teacher.tir is None else restore_tokens(teacher.tir, teacher.indices, search_length)
    )
    known = torch.zeros_like(rgb[..., :1])
    known[:, :template_length] = 1
    known.scatter_(1, template_length + teacher.indices.unsqueeze(-1), 1)
    if student.tir is None:
        rgb = tir = (rgb + tir) / 2
    ours = student.rgb if student.tir is None else torch.cat((student.rgb, student.tir), dim=1)
    theirs, mask = (
        concatenate_streams(*streams, student.indices, template_length=template_length)[
            :, : ours.shape[1]
        ]
        for streams in ((rgb, tir), (known, known))
    )
    if teacher.indices.shape[1] == search_length:
        return ours, theirs
    return ours * mask.to(ours.dtype), theirs * mask


def _answer(model: TrackingNetwork, encoding: Encoding) -> ModelOutput:
    """Return what the head makes of an encoding, as the model's own call does."""
    score, size, offset = model.box_head(encoding.features)
    score_map = clamped_sigmoid(score)
    return ModelOutput(
        score_map, score, size, offset, decode_box(score_map, size, offset), encoding.state
    )


def _make_loss(
    student: TrackingNetwork, teacher: TrackingNetwork, config: DistillConfig
) -> HierarchicalDistillationLoss:
    feature = FeatureDistillationLoss(
        student_depth=student.settings.depth,
        teacher_depth=teacher.settings.depth,
        student_width=student.settings.dim,
        teacher_width=teacher.settings.dim,
        layers=config.layers,  # pyright: ignore[reportArgumentType]
    )
    response = ResponseDistillationLoss(
        temperature=config.temperature,
        form=config.response_form,  # pyright: ignore[reportArgumentType]
    )
    if not config.feature_weight:
        feature.requires_grad_(False)
    return HierarchicalDistillationLoss(
        feature=feature,
        response=response,
        localization=localization_loss(config.loss),
        response_weight=config.response_weight,
        feature_weight=config.feature_weight,
    )


def _check_pair(student: TrackingNetwork, teacher: TrackingNetwork) -> None:
    for name in ("template_size", "search_size", "search_factor"):
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours != theirs:
            raise ValueError(
                f"teacher must take crops as the student does, {name} = {ours}, got {theirs}"
            )
