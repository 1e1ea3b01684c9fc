"""Every layer and loss of the library, at the sizes that tests and benchmarks use: one row each.

The contract tests build each case small and ask it the same questions; ``rgbt-fusion bench layers``
builds it at the sizes of a ViT-B tracker. Adding a layer means adding its row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from rgbt_fusion.checks import did_you_mean
from rgbt_fusion.layers.alignment_layer import AlignmentLayer
from rgbt_fusion.layers.all_layer_self_attention import AllLayerSelfAttention
from rgbt_fusion.layers.any_place import AnyPlace
from rgbt_fusion.layers.attention import Attention, AttentionWithScores
from rgbt_fusion.layers.candidate_elimination import CandidateElimination
from rgbt_fusion.layers.cross_attention_fusion import CrossAttentionFusion
from rgbt_fusion.layers.cross_modal_compensation import CrossModalCompensation
from rgbt_fusion.layers.cross_modality_interaction import CMI
from rgbt_fusion.layers.difference_fusion_mamba import DFM
from rgbt_fusion.layers.efficient_multiscale_attention import EfficientMultiscaleAttention
from rgbt_fusion.layers.elimination_block import EliminationBlock
from rgbt_fusion.layers.gated_cross_modal_compensation import GatedCrossModalCompensation
from rgbt_fusion.layers.joint_candidate_elimination import JointCandidateElimination
from rgbt_fusion.layers.mamba import MambaBlock
from rgbt_fusion.layers.modality_aware_fusion import MAF
from rgbt_fusion.layers.modality_reliability import ModalityReliability
from rgbt_fusion.layers.multi_stream_fusion import MultiStreamFusion
from rgbt_fusion.layers.multi_stream_prompter import MultiStreamPrompter
from rgbt_fusion.layers.mutual_prompter import MutualPrompter
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OFM
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMR
from rgbt_fusion.layers.two_way_compensation import TwoWayCompensation
from rgbt_fusion.layers.vit import EncoderBlock, PatchEmbed
from rgbt_fusion.losses.distillation import (
    FeatureDistillationLoss,
    HierarchicalDistillationLoss,
    ResponseDistillationLoss,
)
from rgbt_fusion.losses.localization import LocalizationLoss

__all__ = ["CASES", "Case", "Setup", "find_setup"]

Inputs = Callable[[Generator, torch.dtype], tuple[Any, ...]]
"""Makes the positional arguments of ``forward`` from a seeded generator, in a dtype.

A tensor that requires a gradient is one that the layer gives a gradient to.
"""


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
    """The gradient is that of the output; false where a straight-through estimate replaces it."""
    per_sample: bool = True
    """No sample of a batch affects another: false for losses, which are means over it."""
    untrained: tuple[str, ...] = ()
    """Beginnings of the names of parameters that get no gradient, by design."""


def normals(count: int, *shape: int) -> Inputs:
    """Return a maker of ``count`` normal tensors of one shape, such as the two streams."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Tensor, ...]:
        made = [torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]
        return tuple(x.requires_grad_() for x in made)

    return inputs


def layers_of(count: int, *shape: int) -> Inputs:
    """Return a maker of one argument: a list of ``count`` features."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[list[Tensor]]:
        return (list(normals(count, *shape)(generator, dtype)),)

    return inputs


def _pyramids(channels: int, *sizes: tuple[int, int]) -> Inputs:
    """Return a maker of two lists of maps, one map per level, for two samples."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
        rgb, tir = [], []
        for height, width in sizes:
            pair = normals(2, 2, channels, height, width)(generator, dtype)
            rgb.append(pair[0])
            tir.append(pair[1])
        return rgb, tir

    return inputs


def _scored(streams: int, batch: int, length: int, search: int, dim: int) -> Inputs:
    """Tokens of each stream, then a score for each search token of each stream."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Tensor, ...]:
        tokens = normals(streams, batch, length, dim)(generator, dtype)
        scores = [torch.rand(batch, search, generator=generator) for _ in range(streams)]
        return *tokens, *scores

    return inputs


def _with_template(batch: int, length: int, dim: int, template_length: int) -> Inputs:
    """Tokens, and how many of them are the template's."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Tensor, int]:
        (tokens,) = normals(1, batch, length, dim)(generator, dtype)
        return tokens, template_length

    return inputs


def _with_history(batch: int, length: int, dim: int) -> Inputs:
    """Two streams and the previous pair of prompts."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        rgb, tir, *history = normals(4, batch, length, dim)(generator, dtype)
        return rgb, tir, tuple(history)

    return inputs


def _many_with_history(*shape: int) -> Inputs:
    """N streams as one tensor, their previous prompts, and which of them each sample has."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return *normals(2, *shape)(generator, dtype), _all_but_the_last_of_all(*shape[:2])

    return inputs


def _many_with_presence(*shape: int) -> Inputs:
    """N streams as one tensor, and which of them each sample has."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return *normals(1, *shape)(generator, dtype), _all_but_the_last_of_all(*shape[:2])

    return inputs


def _all_but_the_last_of_all(batch: int, count: int) -> Tensor:
    """The last sample lacks the last stream."""
    present = torch.ones(batch, count, dtype=torch.bool)
    present[-1, -1] = False
    return present


def _student_and_teacher(count: int, *shape: int) -> Inputs:
    """The features of both networks; the teacher's get no gradient."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
        student = list(normals(count, *shape)(generator, dtype))
        teacher = [x.detach() for x in normals(count, *shape)(generator, dtype)]
        return student, teacher

    return inputs


def _logits(*shape: int) -> Inputs:
    """The response maps of both networks; the teacher's gets no gradient."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        student, teacher = normals(2, *shape)(generator, dtype)
        return student, teacher.detach()

    return inputs


def _maps_and_boxes(batch: int, grid: int) -> Inputs:
    """A score map, the predicted boxes and the targets."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        score = torch.rand(batch, 1, grid, grid, generator=generator) * 0.8 + 0.1
        boxes = torch.rand(2, batch, 4, generator=generator) * 0.4 + 0.3
        predicted, target = boxes.to(dtype)
        return score.to(dtype).requires_grad_(), predicted.clone().requires_grad_(), target.clone()

    return inputs


class ByKeyword(nn.Module):
    """A module whose last arguments have names, called with all of them in order."""

    def __init__(self, module: nn.Module, *names: str) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *inputs: Any) -> Any:
        """Hand the inputs on, the last of them by name."""
        unnamed = len(inputs) - len(self.names)
        named = dict(zip(self.names, inputs[unnamed:], strict=True))
        return self.module(*inputs[:unnamed], **named)


def _hierarchical(**sizes: Any) -> nn.Module:
    loss = HierarchicalDistillationLoss(feature=FeatureDistillationLoss(**sizes))
    return ByKeyword(
        loss, "student_logits", "teacher_logits", "student_features", "teacher_features"
    )


def _maps_logits_and_features(batch: int, grid: int, count: int, *shape: int) -> Inputs:
    """What a student is trained on: its maps and boxes, then both networks' logits and features."""

    def inputs(generator: Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        maps = _maps_and_boxes(batch, grid)(generator, dtype)
        logits = _logits(batch, 1, grid, grid)(generator, dtype)
        features = _student_and_teacher(count, batch, *shape)(generator, dtype)
        return *maps, *logits, *features

    return inputs


# The full sizes are one sample of a ViT-B tracker: 768 channels, 320 tokens at 256 pixels (64 of
# the template, a search grid of 16 x 16) or 720 at 384 pixels (144 and 24 x 24).


def _tokens(
    build: Callable[[], nn.Module], *, streams: int, lengths: tuple[int, ...] = (320, 720)
) -> tuple[Setup, ...]:
    """The tokens of each stream, at each length."""
    return tuple(
        Setup(build, normals(streams, 1, length, 768), f"{length} tokens") for length in lengths
    )


def _maps(build: Callable[[], nn.Module], *, streams: int, dim: int) -> tuple[Setup, ...]:
    """The search maps of each stream."""
    return tuple(
        Setup(build, normals(streams, 1, dim, grid, grid), f"{dim} x {grid} x {grid}")
        for grid in (16, 24)
    )


def _templates(build: Callable[[], nn.Module]) -> tuple[Setup, ...]:
    """The tokens of one stream, and how many lead as the template."""
    return (
        Setup(build, _with_template(1, 320, 768, template_length=64), "320 tokens"),
        Setup(build, _with_template(1, 720, 768, template_length=144), "720 tokens"),
    )


def _scores(build: Callable[[], nn.Module], *, streams: int) -> tuple[Setup, ...]:
    """The tokens of each stream and the scores of their search tokens."""
    return (
        Setup(build, _scored(streams, 1, 320, 256, 768), "320 tokens"),
        Setup(build, _scored(streams, 1, 720, 576, 768), "720 tokens"),
    )


def _prompters(build: Callable[[int], nn.Module]) -> tuple[Setup, ...]:
    """Two streams with a history; ``build`` takes the number of tokens."""
    return (
        Setup(lambda: build(320), _with_history(1, 320, 768), "320 tokens"),
        Setup(lambda: build(720), _with_history(1, 720, 768), "720 tokens"),
    )


def _all_layers(build: Callable[[], nn.Module]) -> tuple[Setup, ...]:
    """The features of twelve layers."""
    return (Setup(build, layers_of(12, 1, 320, 768), "12 x 320 tokens"),)


def _sure_alignment(dim: int, **options: int) -> AlignmentLayer:
    """Return a layer that moves its map, as a new one does not."""
    layer = AlignmentLayer(dim, **options)
    torch.nn.init.constant_(layer.trust.weight, 0.01)
    torch.nn.init.constant_(layer.trust.bias, 0.1)
    return layer


CASES: tuple[Case, ...] = (
    Case(
        "PatchEmbed",
        Setup(lambda: PatchEmbed(patch_size=4, dim=8), normals(1, 2, 3, 8, 12)),
        (Setup(lambda: PatchEmbed(), normals(1, 1, 3, 256, 256), "256 px"),),
    ),
    Case(
        "Attention",
        Setup(lambda: Attention(8, 2), normals(1, 2, 6, 8)),
        _tokens(lambda: Attention(), streams=1),
    ),
    Case(
        "AttentionWithScores",
        Setup(lambda: AttentionWithScores(8, 2), _with_template(2, 6, 8, template_length=2)),
        _templates(lambda: AttentionWithScores()),
        compared_with="Attention",
    ),
    Case(
        "EncoderBlock",
        Setup(lambda: EncoderBlock(8, 2), normals(1, 2, 6, 8)),
        _tokens(lambda: EncoderBlock(), streams=1),
    ),
    Case(
        "EliminationBlock",
        Setup(lambda: EliminationBlock(8, 2), _with_template(2, 8, 8, template_length=2)),
        _templates(lambda: EliminationBlock()),
        compared_with="EncoderBlock",
    ),
    Case(
        "CandidateElimination",
        Setup(lambda: CandidateElimination(0.5), _scored(1, 2, 8, 6, 4)),
        _scores(lambda: CandidateElimination(), streams=1),
    ),
    Case(
        "JointCandidateElimination",
        Setup(lambda: JointCandidateElimination(0.5), _scored(2, 2, 8, 6, 4)),
        _scores(lambda: JointCandidateElimination(), streams=2),
    ),
    Case(
        "MambaBlock",
        Setup(lambda: MambaBlock(8, d_state=4), normals(1, 2, 6, 8)),
        _tokens(lambda: MambaBlock(768), streams=1, lengths=(320, 720, 3840)),
    ),
    Case(
        "DFM",
        Setup(lambda: DFM(8, d_state=4), normals(2, 2, 6, 8)),
        _tokens(lambda: DFM(768), streams=2),
        compared_with="CrossAttentionFusion",
    ),
    Case(
        "DFM, variant paper",
        Setup(lambda: DFM(8, d_state=4, variant="paper"), normals(2, 2, 6, 8)),
    ),
    Case(
        "CrossAttentionFusion",
        Setup(lambda: CrossAttentionFusion(8, 2), normals(2, 2, 6, 8)),
        _tokens(lambda: CrossAttentionFusion(), streams=2),
    ),
    Case(
        "ModalityReliability",
        Setup(lambda: ModalityReliability(8, hidden=4), normals(2, 2, 6, 8)),
        _tokens(lambda: ModalityReliability(768), streams=2),
    ),
    Case(
        "ModalityReliability, two depths",
        Setup(lambda: ModalityReliability(8, hidden=4, depths=2), normals(2, 2, 2, 6, 8)),
    ),
    Case(
        "AlignmentLayer",
        Setup(lambda: AlignmentLayer(8, reach=1, hidden=4), normals(2, 2, 8, 4, 3)),
        _maps(lambda: AlignmentLayer(768), streams=2, dim=768),
    ),
    Case(
        "AlignmentLayer, sure",
        Setup(lambda: _sure_alignment(8, reach=1, hidden=4), normals(2, 2, 8, 4, 3)),
    ),
    Case(
        "OFM",
        Setup(lambda: OFM(8, num_layers=3, d_state=4), layers_of(3, 2, 4, 8)),
        _all_layers(lambda: OFM(768)),
        compared_with="AllLayerSelfAttention",
        exact_gradient=False,
    ),
    Case(
        "OFM, released order",
        Setup(
            lambda: OFM(
                8, num_layers=3, d_state=4, order_predictor="released", order_gradient="none"
            ),
            layers_of(3, 2, 4, 8),
        ),
        _all_layers(lambda: OFM(768, order_predictor="released", order_gradient="none")),
        compared_with="AllLayerSelfAttention",
        untrained=("order_predictor",),
    ),
    Case(
        "OFM, no dynamic order",
        Setup(lambda: OFM(8, num_layers=3, d_state=4, order_predictor=None), layers_of(3, 2, 4, 8)),
        _all_layers(lambda: OFM(768, order_predictor=None)),
        compared_with="AllLayerSelfAttention",
    ),
    Case(
        "AllLayerSelfAttention",
        Setup(lambda: AllLayerSelfAttention(8, 2), layers_of(3, 2, 4, 8)),
        _all_layers(lambda: AllLayerSelfAttention()),
    ),
    Case(
        "EfficientMultiscaleAttention",
        Setup(lambda: EfficientMultiscaleAttention(8, factor=2), normals(1, 2, 8, 4, 3)),
        _maps(lambda: EfficientMultiscaleAttention(), streams=1, dim=768),
    ),
    Case(
        "TMR",
        Setup(lambda: TMR(8, factor=2, hidden=4), normals(2, 2, 8, 4, 3)),
        _maps(lambda: TMR(), streams=2, dim=768),
    ),
    Case(
        "CMI",
        Setup(lambda: CMI(8), normals(2, 2, 8, 4, 3)),
        _maps(lambda: CMI(), streams=2, dim=8),
    ),
    Case(
        "CMI, bidirectional",
        Setup(lambda: CMI(8, direction="bidirectional"), normals(2, 2, 8, 4, 3)),
        _maps(lambda: CMI(direction="bidirectional"), streams=2, dim=8),
    ),
    Case(
        "MAF",
        Setup(lambda: MAF(16), normals(2, 2, 16, 4, 3)),
        _maps(lambda: MAF(), streams=2, dim=8),
    ),
    Case(
        "MAF, spatial",
        Setup(lambda: MAF(8, pooling="spatial"), normals(2, 2, 8, 4, 3)),
        _maps(lambda: MAF(pooling="spatial"), streams=2, dim=8),
    ),
    Case(
        "TPI",
        Setup(lambda: TPI(8), normals(2, 2, 8, 4, 3)),
        _maps(lambda: TPI(), streams=2, dim=768),
    ),
    Case(
        "MutualPrompter",
        Setup(lambda: MutualPrompter(6, reduction=2), _with_history(2, 6, 8)),
        _prompters(lambda tokens: MutualPrompter(tokens)),
    ),
    Case(
        "MutualPrompter, linear form",
        Setup(lambda: MutualPrompter(6, reduction=2, form="linear"), _with_history(2, 6, 8)),
        _prompters(lambda tokens: MutualPrompter(tokens, form="linear")),
        compared_with="MutualPrompter",
    ),
    Case(
        "MutualPrompter, length-free",
        Setup(lambda: MutualPrompter(spatial_attention="length_free"), _with_history(2, 6, 8)),
        _prompters(lambda _: MutualPrompter(spatial_attention="length_free")),
        compared_with="MutualPrompter",
    ),
    Case(
        "MultiStreamPrompter",
        Setup(lambda: MultiStreamPrompter(6, reduction=2), _many_with_history(2, 3, 6, 8)),
        (
            Setup(
                lambda: MultiStreamPrompter(320),
                _many_with_history(1, 3, 320, 768),
                "3 x 320 tokens",
            ),
        ),
    ),
    Case(
        "MultiStreamFusion",
        Setup(lambda: MultiStreamFusion(16, 3), _many_with_presence(2, 3, 16, 4, 3)),
        (Setup(lambda: MultiStreamFusion(8, 3), normals(1, 1, 3, 8, 16, 16), "3 x 8 x 16 x 16"),),
    ),
    Case(
        "AnyPlace, DFM on pyramids",
        Setup(
            lambda: AnyPlace([DFM(8, d_state=4), DFM(8, d_state=4)]), _pyramids(8, (3, 2), (2, 1))
        ),
    ),
    Case(
        "AnyPlace, DFM on maps",
        Setup(lambda: AnyPlace(DFM(8, d_state=4)), normals(2, 2, 8, 3, 2)),
        (Setup(lambda: AnyPlace(DFM(768)), normals(2, 1, 768, 16, 20), "320 tokens"),),
        compared_with="DFM",
    ),
    Case(
        "AnyPlace, TPI on tokens",
        Setup(lambda: AnyPlace(TPI(8), grid=(4, 3)), normals(2, 2, 12, 8)),
    ),
    Case(
        "CrossModalCompensation",
        Setup(lambda: CrossModalCompensation(8, 2), normals(2, 2, 6, 8)),
        _tokens(lambda: CrossModalCompensation(), streams=2),
    ),
    Case(
        "GatedCrossModalCompensation",
        Setup(
            lambda: GatedCrossModalCompensation(8, 2, max_len=6, dropout=0.0), normals(2, 2, 6, 8)
        ),
        _tokens(lambda: GatedCrossModalCompensation(max_len=720), streams=2),
    ),
    Case(
        "TwoWayCompensation",
        Setup(lambda: TwoWayCompensation(8, 2), normals(2, 2, 6, 8)),
        _tokens(lambda: TwoWayCompensation(), streams=2),
    ),
    Case(
        "FeatureDistillationLoss",
        Setup(
            lambda: FeatureDistillationLoss(student_depth=4, student_dim=8, teacher_dim=8),
            _student_and_teacher(2, 2, 6, 8),
        ),
        (
            Setup(
                lambda: FeatureDistillationLoss(),
                _student_and_teacher(6, 1, 640, 768),
                "6 x 640 tokens",
            ),
        ),
        per_sample=False,
    ),
    Case(
        "ResponseDistillationLoss",
        Setup(lambda: ResponseDistillationLoss(), _logits(2, 1, 4, 4)),
        (Setup(lambda: ResponseDistillationLoss(), _logits(1, 1, 16, 16), "16 x 16"),),
        per_sample=False,
    ),
    Case(
        "HierarchicalDistillationLoss",
        Setup(
            lambda: _hierarchical(student_depth=4, student_dim=8, teacher_dim=8),
            _maps_logits_and_features(2, 4, 2, 6, 8),
        ),
        (
            Setup(
                lambda: _hierarchical(),
                _maps_logits_and_features(1, 16, 6, 640, 768),
                "6 x 640 tokens",
            ),
        ),
        per_sample=False,
    ),
    Case(
        "LocalizationLoss",
        Setup(lambda: LocalizationLoss(), _maps_and_boxes(2, 8)),
        (Setup(lambda: LocalizationLoss(), _maps_and_boxes(1, 16), "16 x 16"),),
        per_sample=False,
    ),
)
"""The table; names are class names or their acronyms, with what is not the default after a comma.
"""


def find_setup(name: str) -> Setup:
    """Return a full-size setup by ``"<case>: <size>"``, or a small one by ``"<case>: small"``."""
    for case in CASES:
        for setup in case.full:
            if name == f"{case.name}: {setup.size}":
                return setup
        if name == f"{case.name}: small":
            return case.small
    known = [f"{case.name}: {setup.size}" for case in CASES for setup in case.full]
    raise ValueError(
        f"name must be one of the cases and sizes of CASES, got {name!r}{did_you_mean(name, known)}"
    )
