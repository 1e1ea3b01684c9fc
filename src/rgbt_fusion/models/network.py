"""What all tracking models share: settings, an encoder, a head, and the way from images to a
box."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.encoder import Encoder, EncoderSettings
from rgbt_fusion.models.head import CenterHead, clamped_sigmoid, decode_box
from rgbt_fusion.models.interface import (
    Encoding,
    LayerTokens,
    ModelOutput,
    Template,
    TemplateTokens,
    check_images,
)
from rgbt_fusion.shapes import check_shape

__all__ = ["TrackingNetwork", "check_template_batch", "join_template", "layer_tokens"]


class TrackingNetwork(nn.Module):
    """A tracker's network: an encoder that a subclass walks with its fusion between the blocks, and
    a centre head.

    A subclass writes ``embed_template`` and ``_encode`` and hands its own constructor arguments
    over as ``options``: with the settings they are the configuration that its files carry.

    Args:
        settings: sizes of encoder and head.
        options: the subclass's constructor arguments by name, plain values only.
    """

    summed_streams = 1
    """How many streams' features are added up before the head: a head trained on one is divided by
it when loaded."""

    duplicated: tuple[tuple[str, str], ...] = ()
    """Prefixes of parameters that start as a copy of others when a file lacks them: ``(own, the
other's)``."""

    def __init__(self, settings: EncoderSettings, options: dict[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        self.options = options
        self.backbone = Encoder(settings)
        self.box_head = CenterHead(
            settings.dim, channels=settings.head_channels, grid=settings.search_grid
        )

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
        """Side of the search crop over the square root of the target's area."""
        return self.settings.search_factor

    @property
    def configuration(self) -> dict[str, Any]:
        """The model's class, settings and options as plain values: enough to build it again."""
        return {
            "model": type(self).__name__,
            "settings": dataclasses.asdict(self.settings),
            "options": self.options,
            "summed_streams": self.summed_streams,
        }

    def forward(
        self,
        template: Template,
        search: ImagePair,
        state: Any = None,
        *,
        keep_ratio: float | None = None,
    ) -> ModelOutput:
        """Look for the template's target in the search crop; see :class:`TrackerModel`.

        ``keep_ratio`` takes the place of the settings' for this call, for a training schedule.
        """
        encoding = self._encode(template, search, state, (), keep_ratio, drawing=False)
        score, size, offset = self.box_head(encoding.features)
        score_map = clamped_sigmoid(score)
        return ModelOutput(
            score_map, score, size, offset, decode_box(score_map, size, offset), encoding.state
        )

    def encode(
        self,
        template: Template,
        search: ImagePair,
        state: Any = None,
        layers: Sequence[int] = (),
        *,
        keep_ratio: float | None = None,
    ) -> Encoding:
        """Return what the head reads, and the tokens after the blocks ``layers``; see
        :class:`TrackerModel`."""
        for layer in layers:
            if not 0 <= layer < self.settings.depth:
                raise ValueError(
                    f"layers must be block numbers in [0, {self.settings.depth - 1}], got {layer}"
                )
        return self._encode(template, search, state, layers, keep_ratio, drawing=True)

    def decode(self, output: ModelOutput, window: Tensor | None = None) -> Tensor:
        """Return the box ``(B, 4)`` at the maximum of ``score_map * window``; see
        :class:`TrackerModel`."""
        if window is None:
            return output.box_cxcywh_unit
        grid = self.settings.search_grid
        check_shape(window, "S S", S=grid, name="window")
        return decode_box(output.score_map * window, output.size_map, output.offset_map)

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once; the model takes them in the place of the images."""
        raise NotImplementedError

    def _encode(
        self,
        template: Template,
        search: ImagePair,
        state: Any,
        layers: Sequence[int],
        keep_ratio: float | None,
        *,
        drawing: bool,
    ) -> Encoding:
        raise NotImplementedError

    def _template_tokens(self, template: Template) -> TemplateTokens:
        return template if isinstance(template, TemplateTokens) else self.embed_template(template)

    def _check_search(self, search: ImagePair) -> None:
        check_images(search, self.search_size, name="search", like=self.backbone.pos_embed_x)

    def _embed_two_streams(self, template: Template, search: ImagePair) -> Tensor:
        """Return the tokens ``(2 B, T + S, C)`` of both streams as one batch, RGB first."""
        self._check_search(search)
        searched = self.backbone.embed_search(torch.cat(search))
        return join_template(self._template_tokens(template), searched)

    def _embed_template_pair(self, template: ImagePair) -> TemplateTokens:
        """Return the template's tokens of both streams."""
        check_images(template, self.template_size, name="template", like=self.backbone.pos_embed_z)
        rgb, tir = self.backbone.embed_template(torch.cat(template)).chunk(2)
        return TemplateTokens(rgb, tir)


def check_template_batch(template: TemplateTokens, batch: int) -> None:
    """Check that the template has as many rows as the search crop."""
    if len(template.rgb) != batch:
        raise ShapeError(
            f"template must have the batch of search, {batch}, got {len(template.rgb)}"
        )


def join_template(template: TemplateTokens, search: Tensor) -> Tensor:
    """Put the template's tokens, stream by stream, in front of the search tokens ``(streams * B, S,
    C)``."""
    streams = [x for x in template if x is not None]
    check_template_batch(template, len(search) // len(streams))
    return torch.cat((torch.cat(streams) if len(streams) > 1 else streams[0], search), dim=1)


def layer_tokens(tokens: Tensor, indices: Tensor, *, streams: int) -> LayerTokens:
    """Wrap the tokens ``(streams * B, T + K, C)`` of one block."""
    parts = tokens.chunk(streams)
    return LayerTokens(parts[0], parts[1] if streams == 2 else None, indices)
