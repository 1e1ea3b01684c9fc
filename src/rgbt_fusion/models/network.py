"""What all tracking models share: settings, encoder, head, and the walk from images to a box."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_positive_int
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.alignment_layer import AlignmentEstimate, AlignmentLayer
from rgbt_fusion.layers.modality_reliability import ModalityReliability
from rgbt_fusion.models.encoder import Encoder, EncoderSettings
from rgbt_fusion.models.head import CenterHead, decode_box
from rgbt_fusion.models.interface import (
    Encoding,
    ModelOutput,
    ModelState,
    Template,
    TemplateTokens,
    check_images,
)
from rgbt_fusion.models.tracking_settings import TrackingSettings
from rgbt_fusion.models.walk import Call, Walk
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["TrackingNetwork", "check_template_batch", "join_template", "template_streams"]


class TrackingNetwork(TypedModule):
    """A tracker's network: an encoder that walks its blocks, and a centre head.

    A subclass writes ``begin``, which returns the walk of one call: what happens before and after
    a block, and what the head reads. It hands its own constructor arguments over as ``options``:
    with the settings they are the configuration that its files carry.

    Args:
        settings: sizes of encoder and head.
        options: the constructor arguments of the subclass by name, plain values only.
        reliability: block numbers in ascending order, for a subclass whose walk holds the tokens of
            both modalities. From the search tokens after these blocks a
            :class:`~rgbt_fusion.layers.modality_reliability.ModalityReliability` estimates how far
            each modality is to be trusted, and weighs them where they are joined. None, the
            default, weighs nothing.
        alignment: largest shift in cells that an
            :class:`~rgbt_fusion.layers.alignment_layer.AlignmentLayer` looks for, for a subclass
            that embeds its streams by ``embed_aligned``. None, the default, moves nothing.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised; the template as tokens, too
        - returns :class:`ModelOutput`

    Raises:
        ValueError: ``reliability`` is not ascending block numbers of the encoder, or ``alignment``
            is not from 1 to the cells of the search grid less 1.
        TypeError: ``alignment`` is not a whole number.

    Example:
        >>> import torch
        >>> from rgbt_fusion import EncoderSettings, ImagePair, TrackingNetwork
        >>> from rgbt_fusion.models import Call, Walk
        >>> class SumOfStreams(TrackingNetwork):
        ...     summed_streams = 2
        ...     def begin(self, call: Call) -> Walk:
        ...         tokens = self.embed_two_streams(call.template, call.search)
        ...         return Walk(self.backbone, tokens, streams=2)
        >>> small = EncoderSettings(dim=32, depth=2, num_heads=2, template_size=64, search_size=128)
        >>> model = SumOfStreams(small, {}).eval()
        >>> template, search = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 128, 128)
        >>> model(ImagePair(template, template), ImagePair(search, search)).box_cxcywh_unit.shape
        torch.Size([1, 4])
    """

    summed_streams = 1
    """How many streams are added up before the head: a head that was trained on one stream is
    divided by it when loaded."""

    duplicated: tuple[tuple[str, str], ...] = ()
    """Parameters that start as a copy of others when a file lacks them: ``(own prefix, prefix of
    the others)``."""

    neutral = ("alignment.", "reliability.")
    """Beginnings of the names of parameters that change no result before they are trained: a file
    of weights may lack them."""

    def __init__(
        self,
        settings: EncoderSettings,
        options: dict[str, Any],
        *,
        reliability: Sequence[int] | None = None,
        alignment: int | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.options = dict(options)
        self.judged_layers = _blocks_of(reliability, settings.depth)
        # files of networks without these options stay as they were
        if reliability is not None:
            self.options["reliability"] = list(self.judged_layers)
        if alignment is not None:
            self.options["alignment"] = _reach_of(alignment, settings.search_grid)
        self.tracking_settings: TrackingSettings | None = None
        """How a tracker goes from answers to boxes, as it was measured for the weights; None is the
        paper's way. Files store it."""
        self.prepared: dict[nn.Module, Any] = {}
        """What layers made of their parameters once, by ``prepare``, for those that are given it.

        Empty, but in the form for inference, which makes it again when a parameter changes."""
        self.backbone = Encoder(settings)
        self.box_head = CenterHead(
            settings.dim, channels=settings.head_channels, grid=settings.search_grid
        )
        self.reliability: ModalityReliability | None = None
        if self.judged_layers:
            # leaves the random numbers alone: all other parameters start as they would without it
            with torch.random.fork_rng(devices=[]):
                self.reliability = ModalityReliability(settings.dim, depths=len(self.judged_layers))
        self.alignment: AlignmentLayer | None = None
        if alignment is not None:
            with torch.random.fork_rng(devices=[]):
                self.alignment = AlignmentLayer(settings.dim, reach=alignment)

    @property
    def template_size(self) -> int:
        """Side of the template crop in pixels."""
        return self.settings.template_size

    @property
    def search_size(self) -> int:
        """Side of the search crop in pixels."""
        return self.settings.search_size

    @property
    def search_factor(self) -> float:
        """Side of the search crop over the square root of the area of the target."""
        return self.settings.search_factor

    @property
    def configuration(self) -> dict[str, Any]:
        """The class, settings and options as plain values: enough to build the model again."""
        return {
            "model": type(self).__name__,
            "settings": dataclasses.asdict(self.settings),
            "options": self.options,
            "summed_streams": self.summed_streams,
        }

    def begin(self, call: Call) -> Walk:
        """Return the walk of one call, its tokens in front of the first block."""
        raise NotImplementedError(f"{type(self).__name__} must say how a call begins: write begin")

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once, ``(B, T, C)`` per stream; two streams by default."""
        check_images(template, self.template_size, name="template", like=self.backbone.pos_embed_z)
        rgb, tir = self.backbone.embed_template(torch.cat(template)).chunk(2)
        return TemplateTokens(rgb, tir)

    def forward(
        self,
        template: Template,
        search: ImagePair,
        state: ModelState | None = None,
        *,
        keep_ratio: float | None = None,
    ) -> ModelOutput:
        """Look for the target of the template in the search crop.

        ``keep_ratio`` replaces that of the settings for this call, for a training schedule.
        """
        return self.answer(self.walk(self._call(template, search, state, keep_ratio)))

    def encode(
        self,
        template: Template,
        search: ImagePair,
        state: ModelState | None = None,
        layers: Sequence[int] = (),
        *,
        keep_ratio: float | None = None,
        drawing: bool = True,
    ) -> Encoding:
        """Return what the head reads, the tokens after the blocks ``layers``, and what is drawn.

        ``drawing=False`` leaves out what is computed for drawing alone.
        """
        depth = self.settings.depth
        for layer in layers:
            if not 0 <= layer < depth:
                raise ValueError(f"layers must be block numbers in [0, {depth - 1}], got {layer}")
        call = self._call(template, search, state, keep_ratio)
        return self.walk(call, layers, drawing=drawing)

    def answer(self, encoding: Encoding) -> ModelOutput:
        """Return what the head makes of an encoding."""
        maps = self.box_head(encoding.features)
        return ModelOutput.from_maps(maps.score_logits, maps.size, maps.offset, encoding.state)

    def decode(self, output: ModelOutput, window: Tensor | None = None) -> Tensor:
        """Return the box ``(B, 4)`` at the maximum of ``score_map * window``, window ``(S, S)``."""
        if window is None:
            return output.box_cxcywh_unit
        check_shape(window, "S S", S=self.settings.search_grid, name="window")
        return decode_box(output.score_map * window, output.size_map, output.offset_map)

    def walk(self, call: Call, layers: Sequence[int] = (), *, drawing: bool = False) -> Encoding:
        """Walk the blocks of the encoder.

        Args:
            call: what is asked.
            layers: the blocks after which the tokens are kept.
            drawing: whether to compute what is only drawn.
        """
        walk = self.begin(call)
        if self.alignment is not None and walk.alignment is None:
            raise ValueError(
                "alignment must be None in a network whose walk is not begun with what "
                f"embed_aligned returns, as {type(walk).__name__} is not"
            )
        walk.estimator = self.reliability
        kept = []
        for number in range(self.settings.depth):
            walk.before_block(number)
            walk.run_block(number, call.keep_ratio)
            walk.after_block(number)
            if number in self.judged_layers:
                walk.judge()
            if number in layers:
                kept.append(walk.layer_tokens())
        estimate = walk.estimate()
        reliability = None
        if estimate is not None:
            reliability = self.backbone.restore(estimate.reliability, walk.indices)
        return Encoding(
            features=self.backbone.restore(walk.features(), walk.indices),
            layers=tuple(kept),
            indices=walk.indices,
            modality_weights=walk.modality_weights() if drawing else None,
            layer_order=walk.layer_order() if drawing else None,
            state=walk.next_state(call.state),
            reliability=reliability,
            alignment=walk.alignment,
        )

    def check_search(self, search: ImagePair) -> None:
        """Check that both search crops have the size, dtype and device of the model."""
        check_images(search, self.search_size, name="search", like=self.backbone.pos_embed_x)

    def embed_two_streams(self, template: TemplateTokens, search: ImagePair) -> Tensor:
        """Return the tokens ``(2 B, T + S, C)`` of both streams as one batch, RGB first."""
        self.check_search(search)
        return join_template(template, self.backbone.embed_search(torch.cat(search)))

    def embed_aligned(
        self, template: TemplateTokens, search: ImagePair
    ) -> tuple[Tensor, AlignmentEstimate | None]:
        """Return the tokens of both streams as one batch, and how far the thermal crop was off.

        The thermal search tokens are moved before they are told their positions. The template's
        stay: its few cells do not say how far they are off. Without the option ``alignment`` this
        is ``embed_two_streams``, and there is no estimate.
        """
        if self.alignment is None:
            return self.embed_two_streams(template, search), None
        self.check_search(search)
        rgb, tir = self.backbone.patch_embed(torch.cat(search)).chunk(2)
        grid = (self.settings.search_grid, self.settings.search_grid)
        aligned = self.alignment(rgb.mT.unflatten(2, grid), tir.mT.unflatten(2, grid))
        patches = torch.cat((rgb, aligned.tir.flatten(2).mT))
        tokens = join_template(template, patches + self.backbone.pos_embed_x)
        return tokens, AlignmentEstimate(aligned.offset, aligned.confidence)

    def _call(
        self,
        template: Template,
        search: ImagePair,
        state: ModelState | None,
        keep_ratio: float | None,
    ) -> Call:
        if not isinstance(template, TemplateTokens):
            template = self.embed_template(template)
        ratio = self.settings.keep_ratio if keep_ratio is None else keep_ratio
        return Call(template, search, state, ratio)


def _blocks_of(reliability: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Return the blocks after which the reliability is judged; none without it."""
    if reliability is None:
        return ()
    blocks = tuple(reliability)
    is_ascending = list(blocks) == sorted(set(blocks))
    if not blocks or not is_ascending or blocks[0] < 0 or blocks[-1] >= depth:
        raise ValueError(
            f"reliability must be ascending block numbers in [0, {depth - 1}] or None, "
            f"got {reliability!r}"
        )
    return blocks


def _reach_of(alignment: int, grid: int) -> int:
    """Return the reach of the alignment layer."""
    if check_positive_int(alignment, name="alignment") >= grid:
        raise ValueError(
            f"alignment must be below the {grid} cells of the search grid, got {alignment}"
        )
    return alignment


def check_template_batch(template: TemplateTokens, batch: int) -> None:
    """Check that the template has as many rows as the search crop; raise ``ShapeError`` else."""
    if len(template.rgb) != batch:
        raise ShapeError(
            f"template must have the batch of search, {batch}, got {len(template.rgb)}"
        )


def join_template(template: TemplateTokens, search: Tensor) -> Tensor:
    """Put the template in front of the search tokens ``(streams * B, S, C)``, stream by stream."""
    if template.tir is None:
        check_template_batch(template, len(search))
        return torch.cat((template.rgb, search), dim=1)
    check_template_batch(template, len(search) // 2)
    return torch.cat((torch.cat((template.rgb, template.tir)), search), dim=1)


def template_streams(template: TemplateTokens, batch: int) -> tuple[Tensor, Tensor]:
    """Return the tokens of both streams of a template of ``batch`` rows.

    Raises:
        ShapeError: the template has another number of rows.
        ValueError: the tokens are those of a model of one stream.
    """
    check_template_batch(template, batch)
    if template.tir is None:
        raise ValueError("template must hold tokens of both modalities, got tokens of one stream")
    return template.rgb, template.tir
