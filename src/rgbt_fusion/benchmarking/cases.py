"""Every layer and loss of the library, at the sizes that tests and benchmarks use: one row each.

The contract tests build each case small and ask it the same questions; ``rgbt-fusion bench layers``
builds it at the sizes of a ViT-B tracker. Adding a layer means adding its row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from rgbt_fusion.layers.attention import Attention, AttentionWithScores
from rgbt_fusion.layers.attention_fusion import AllLayerSelfAttention, CrossAttentionFusion
from rgbt_fusion.layers.candidate_elimination import CandidateElimination
from rgbt_fusion.layers.compensation import (
    CrossModalCompensation,
    GatedCrossModalCompensation,
    TwoWayCompensation,
)
from rgbt_fusion.layers.cross_modality_interaction import CMI
from rgbt_fusion.layers.difference_fusion_mamba import DFM
from rgbt_fusion.layers.efficient_multiscale_attention import EfficientMultiscaleAttention
from rgbt_fusion.layers.elimination_block import EliminationBlock
from rgbt_fusion.layers.joint_candidate_elimination import JointCandidateElimination
from rgbt_fusion.layers.mamba import MambaBlock
from rgbt_fusion.layers.modality_aware_fusion import MAF
from rgbt_fusion.layers.mutual_prompter import MutualPrompter
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OFM
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMR
from rgbt_fusion.layers.vit import EncoderBlock, PatchEmbed
from rgbt_fusion.losses.distillation import (
    FeatureDistillationLoss,
    HierarchicalDistillationLoss,
    ResponseDistillationLoss,
)
from rgbt_fusion.losses.localization import LocalizationLoss

__all__ = ["CASES", "Case", "Setup"]

Inputs = Callable[[Generator, torch.dtype], tuple[Any, ...]]
"""Makes the positional arguments of ``forward`` from a seeded generator, in a dtype. A tensor that
requires a gradient is one that the layer gives a gradient to."""


@dataclass(frozen=True)
class Setup:
    """A layer at one size: how to build it and what to hand it."""

    build: Callable[[], nn.Module]
    inputs: Inputs
    size: str = ""
    """What tells this size from the others of the case, such as ``"320 tokens"``."""


@dataclass(frozen=True)
class Case:
    """One layer: small enough for float64 gradient checks, and as the trackers have it."""

    name: str
    small: Setup
    full: tuple[Setup, ...] = ()
    """The sizes of a ViT-B tracker; none for what costs nothing worth measuring."""
    compared_with: str | None = None
    """The case that does the same job another way."""
    exact_gradient: bool = True
    """The gradient is that of the output: false where a straight-through estimate stands in for
it."""
    per_sample: bool = True
    """No sample of a batch affects another: false for losses, which are means over it."""
    untrained: tuple[str, ...] = ()
    """Beginnings of the names of parameters that get no gradient, by design."""


def normal(*shape: int) -> Callable[[Generator, torch.dtype], Tensor]:
    """Return a maker of a normal tensor that takes a gradient."""
    return lambda generator, dtype: (
        torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    )


def normals(count: int, *shape: int) -> Inputs:
    """Return a maker of ``count`` normal tensors of one shape, such as the two streams."""
    return lambda generator, dtype: tuple(normal(*shape)(generator, dtype) for _ in range(count))


def layers_of(count: int, *shape: int) -> Inputs:
    """Return a maker of one argument: a list of ``count`` features."""
    return lambda generator, dtype: (list(normals(count, *shape)(generator, dtype)),)


def _scored(count: int, batch: int, length: int, search: int, dim: int) -> Inputs:
    """Tokens of ``count`` streams, then a score for each search token of each stream."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        tokens = normals(count, batch, length, dim)(generator, dtype)
        return *tokens, *(torch.rand(batch, search, generator=generator) for _ in range(count))

    return inputs


def _tokens_and_template(batch: int, length: int, dim: int, template_length: int) -> Inputs:
    return lambda generator, dtype: (normal(batch, length, dim)(generator, dtype), template_length)


def _with_history(batch: int, length: int, dim: int) -> Inputs:
    """Two streams and the previous pair of prompts."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        rgb, tir, *history = normals(4, batch, length, dim)(generator, dtype)
        return rgb, tir, tuple(history)

    return inputs


def _student_and_teacher(count: int, *shape: int) -> Inputs:
    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        student = list(normals(count, *shape)(generator, dtype))
        return student, [x.detach() for x in normals(count, *shape)(generator, dtype)]

    return inputs


def _logits(*shape: int) -> Inputs:
    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        student, teacher = normals(2, *shape)(generator, dtype)
        return student, teacher.detach()

    return inputs


def _maps_and_boxes(batch: int, grid: int) -> Inputs:
    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        score = torch.rand(batch, 1, grid, grid, generator=generator) * 0.8 + 0.1
        boxes = torch.rand(2, batch, 4, generator=generator) * 0.4 + 0.3
        predicted, target = boxes.to(dtype)
        return score.to(dtype).requires_grad_(), predicted.clone().requires_grad_(), target.clone()

    return inputs


class ByKeyword(nn.Module):
    """A module whose last arguments have names, called with all of them in order."""

    def __init__(self, module: nn.Module, *names: str) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *inputs: Any) -> Any:
        """Hand the inputs on, the last of them by name."""
        unnamed = len(inputs) - len(self.names)
        return self.module(
            *inputs[:unnamed], **dict(zip(self.names, inputs[unnamed:], strict=True))
        )


def _hierarchical(**sizes: Any) -> nn.Module:
    loss = HierarchicalDistillationLoss(feature=FeatureDistillationLoss(**sizes))
    return ByKeyword(
        loss, "student_logits", "teacher_logits", "student_features", "teacher_features"
    )


def _maps_logits_and_features(batch: int, grid: int, count: int, *shape: int) -> Inputs:
    """What a student is trained on: its maps and boxes, both networks' logits, both networks'
    features."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        maps = _maps_and_boxes(batch, grid)(generator, dtype)
        logits = _logits(batch, 1, grid, grid)(generator, dtype)
        return *maps, *logits, *_student_and_teacher(count, batch, *shape)(generator, dtype)

    return inputs


def _tokens(build: Callable[[], nn.Module], streams: int, *lengths: int) -> tuple[Setup, ...]:
    """One sample of ViT-B tokens in each of ``streams``, 320 of them at 256 px and 720 at 384
    px."""
    return tuple(
        Setup(build, normals(streams, 1, length, 768), f"{length} tokens")
        for length in lengths or (320, 720)
    )


def _maps(
    build: Callable[[], nn.Module], streams: int, channels: int, *grids: int
) -> tuple[Setup, ...]:
    """One sample of search maps in each of ``streams``."""
    grids = grids or (16, 24)
    return tuple(
        Setup(build, normals(streams, 1, channels, g, g), f"{channels} x {g} x {g}") for g in grids
    )


CASES: tuple[Case, ...] = (
    Case("PatchEmbed", Setup(lambda: PatchEmbed(patch_size=4, dim=8), normals(1, 2, 3, 8, 12)),
         (Setup(lambda: PatchEmbed(), normals(1, 1, 3, 256, 256), "256 px"),)),
    Case("Attention", Setup(lambda: Attention(8, 2), normals(1, 2, 6, 8)),
         _tokens(lambda: Attention(), 1)),
    Case("AttentionWithScores", Setup(lambda: AttentionWithScores(8, 2), _tokens_and_template(2, 6, 8, 2)),
         (Setup(lambda: AttentionWithScores(), _tokens_and_template(1, 320, 768, 64), "320 tokens"),
          Setup(lambda: AttentionWithScores(), _tokens_and_template(1, 720, 768, 144), "720 tokens")),
         compared_with="Attention"),
    Case("EncoderBlock", Setup(lambda: EncoderBlock(8, 2), normals(1, 2, 6, 8)),
         _tokens(lambda: EncoderBlock(), 1)),
    Case("EliminationBlock", Setup(lambda: EliminationBlock(8, 2), _tokens_and_template(2, 8, 8, 2)),
         (Setup(lambda: EliminationBlock(), _tokens_and_template(1, 320, 768, 64), "320 tokens"),
          Setup(lambda: EliminationBlock(), _tokens_and_template(1, 720, 768, 144), "720 tokens")),
         compared_with="EncoderBlock"),
    Case("CandidateElimination", Setup(lambda: CandidateElimination(0.5), _scored(1, 2, 8, 6, 4)),
         (Setup(lambda: CandidateElimination(), _scored(1, 1, 320, 256, 768), "320 tokens"),
          Setup(lambda: CandidateElimination(), _scored(1, 1, 720, 576, 768), "720 tokens"))),
    Case("JointCandidateElimination", Setup(lambda: JointCandidateElimination(0.5), _scored(2, 2, 8, 6, 4)),
         (Setup(lambda: JointCandidateElimination(), _scored(2, 1, 320, 256, 768), "320 tokens"),
          Setup(lambda: JointCandidateElimination(), _scored(2, 1, 720, 576, 768), "720 tokens"))),
    Case("MambaBlock", Setup(lambda: MambaBlock(8, d_state=4), normals(1, 2, 6, 8)),
         _tokens(lambda: MambaBlock(768), 1, 320, 720, 3840)),
    Case("DFM", Setup(lambda: DFM(8, d_state=4), normals(2, 2, 6, 8)),
         _tokens(lambda: DFM(768), 2), compared_with="CrossAttentionFusion"),
    Case("DFM, variant paper", Setup(lambda: DFM(8, d_state=4, variant="paper"), normals(2, 2, 6, 8))),
    Case("CrossAttentionFusion", Setup(lambda: CrossAttentionFusion(8, 2), normals(2, 2, 6, 8)),
         _tokens(lambda: CrossAttentionFusion(), 2)),
    Case("OFM", Setup(lambda: OFM(8, num_layers=3, d_state=4), layers_of(3, 2, 4, 8)),
         (Setup(lambda: OFM(768), layers_of(12, 1, 320, 768), "12 x 320 tokens"),),
         compared_with="AllLayerSelfAttention", exact_gradient=False),
    Case("OFM, released order", Setup(
            lambda: OFM(8, num_layers=3, d_state=4, order_predictor="released", order_gradient="none"),
            layers_of(3, 2, 4, 8)),
         (Setup(lambda: OFM(768, order_predictor="released", order_gradient="none"), layers_of(12, 1, 320, 768),
                "12 x 320 tokens"),),
         compared_with="AllLayerSelfAttention", untrained=("order_predictor",)),
    Case("OFM, no dynamic order",
         Setup(lambda: OFM(8, num_layers=3, d_state=4, order_predictor=None), layers_of(3, 2, 4, 8)),
         (Setup(lambda: OFM(768, order_predictor=None), layers_of(12, 1, 320, 768), "12 x 320 tokens"),),
         compared_with="AllLayerSelfAttention"),
    Case("AllLayerSelfAttention", Setup(lambda: AllLayerSelfAttention(8, 2), layers_of(3, 2, 4, 8)),
         (Setup(lambda: AllLayerSelfAttention(), layers_of(12, 1, 320, 768), "12 x 320 tokens"),)),
    Case("EfficientMultiscaleAttention",
         Setup(lambda: EfficientMultiscaleAttention(8, factor=2), normals(1, 2, 8, 4, 3)),
         _maps(lambda: EfficientMultiscaleAttention(), 1, 768)),
    Case("TMR", Setup(lambda: TMR(8, factor=2, hidden=4), normals(2, 2, 8, 4, 3)), _maps(lambda: TMR(), 2, 768)),
    Case("CMI", Setup(lambda: CMI(8), normals(2, 2, 8, 4, 3)), _maps(lambda: CMI(), 2, 8)),
    Case("CMI, bidirectional", Setup(lambda: CMI(8, direction="bidirectional"), normals(2, 2, 8, 4, 3)),
         _maps(lambda: CMI(direction="bidirectional"), 2, 8)),
    Case("MAF", Setup(lambda: MAF(16), normals(2, 2, 16, 4, 3)), _maps(lambda: MAF(), 2, 8)),
    Case("MAF, spatial", Setup(lambda: MAF(8, pooling="spatial"), normals(2, 2, 8, 4, 3)),
         _maps(lambda: MAF(pooling="spatial"), 2, 8)),
    Case("TPI", Setup(lambda: TPI(8), normals(2, 2, 8, 4, 3)), _maps(lambda: TPI(), 2, 768)),
    Case("MutualPrompter", Setup(lambda: MutualPrompter(6, reduction=2), _with_history(2, 6, 8)),
         (Setup(lambda: MutualPrompter(320), _with_history(1, 320, 768), "320 tokens"),
          Setup(lambda: MutualPrompter(720), _with_history(1, 720, 768), "720 tokens"))),
    Case("MutualPrompter, linear form",
         Setup(lambda: MutualPrompter(6, reduction=2, form="linear"), _with_history(2, 6, 8)),
         (Setup(lambda: MutualPrompter(320, form="linear"), _with_history(1, 320, 768), "320 tokens"),
          Setup(lambda: MutualPrompter(720, form="linear"), _with_history(1, 720, 768), "720 tokens")),
         compared_with="MutualPrompter"),
    Case("MutualPrompter, length-free",
         Setup(lambda: MutualPrompter(spatial_attention="length_free"), _with_history(2, 6, 8)),
         (Setup(lambda: MutualPrompter(spatial_attention="length_free"), _with_history(1, 320, 768), "320 tokens"),
          Setup(lambda: MutualPrompter(spatial_attention="length_free"), _with_history(1, 720, 768), "720 tokens")),
         compared_with="MutualPrompter"),
    Case("CrossModalCompensation", Setup(lambda: CrossModalCompensation(8, 2), normals(2, 2, 6, 8)),
         _tokens(lambda: CrossModalCompensation(), 2)),
    Case("GatedCrossModalCompensation",
         Setup(lambda: GatedCrossModalCompensation(8, 2, max_len=6, dropout=0.0), normals(2, 2, 6, 8)),
         _tokens(lambda: GatedCrossModalCompensation(max_len=720), 2)),
    Case("TwoWayCompensation", Setup(lambda: TwoWayCompensation(8, 2), normals(2, 2, 6, 8)),
         _tokens(lambda: TwoWayCompensation(), 2)),
    Case("FeatureDistillationLoss",
         Setup(lambda: FeatureDistillationLoss(student_depth=4, student_width=8, teacher_width=8),
               _student_and_teacher(2, 2, 6, 8)),
         (Setup(lambda: FeatureDistillationLoss(), _student_and_teacher(6, 1, 640, 768), "6 x 640 tokens"),),
         per_sample=False),
    Case("ResponseDistillationLoss", Setup(lambda: ResponseDistillationLoss(), _logits(2, 1, 4, 4)),
         (Setup(lambda: ResponseDistillationLoss(), _logits(1, 1, 16, 16), "16 x 16"),), per_sample=False),
    Case("HierarchicalDistillationLoss",
         Setup(lambda: _hierarchical(student_depth=4, student_width=8, teacher_width=8),
               _maps_logits_and_features(2, 4, 2, 6, 8)),
         (Setup(lambda: _hierarchical(), _maps_logits_and_features(1, 16, 6, 640, 768), "6 x 640 tokens"),),
         per_sample=False),
    Case("LocalizationLoss", Setup(lambda: LocalizationLoss(), _maps_and_boxes(2, 8)),
         (Setup(lambda: LocalizationLoss(), _maps_and_boxes(1, 16), "16 x 16"),), per_sample=False),
)  # fmt: skip
"""The table; names are class names or their acronyms, with what is not the default behind a
comma."""


def find_setup(name: str) -> Setup:
    """Return a full-size setup by ``"<case>: <size>"``, or a small one by ``"<case>: small"``."""
    for case in CASES:
        for setup in case.full:
            if name == f"{case.name}: {setup.size}":
                return setup
        if name == f"{case.name}: small":
            return case.small
    raise ValueError(f"name must be one of the cases and sizes of CASES, got {name!r}")
