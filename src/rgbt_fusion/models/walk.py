"""One call's way through the encoder, and where a tracker steps in."""

from typing import NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.alignment_layer import AlignmentEstimate
from rgbt_fusion.layers.modality_reliability import ModalityReliability, ReliabilityEstimate
from rgbt_fusion.models.encoder import Encoder
from rgbt_fusion.models.interface import LayerTokens, ModelState, TemplateTokens

__all__ = ["Call", "Walk"]


class Call(NamedTuple):
    """What a network is asked in one call."""

    template: TemplateTokens
    search: ImagePair
    state: ModelState | None
    """What the model remembers of the previous frame; None at the first."""
    keep_ratio: float
    """Share of the search tokens that stays at each elimination."""


class Walk:
    """One call's way through the encoder: the tokens, and what a tracker does with them.

    The network makes one per call, walks the blocks and asks the walk before and after each. This
    class does nothing in between, and lets the head read the sum of the streams. A tracker whose
    modalities meet on the way writes a subclass that changes ``tokens`` in ``before_block`` or
    ``after_block``, and says what the head reads in ``features``. What one call has to remember
    lies in the walk, never in the network.

    Args:
        encoder: whose blocks are walked.
        tokens: template and search tokens, ``(streams * B, T + K, C)``, stream by stream.
        streams: how many streams the rows hold: 1 or 2.
        indices: places of the K search tokens in the grid, ``(B, K)``; all places by default.
        alignment: how far the thermal search crop was off, where that was estimated.

    Example:
        >>> from torch import Tensor
        >>> from rgbt_fusion.models import Walk
        >>> class MeanOfStreams(Walk):
        ...     def features(self) -> Tensor:
        ...         rgb, tir = self.normed_streams()
        ...         return (rgb + tir) / 2
    """

    def __init__(
        self,
        encoder: Encoder,
        tokens: Tensor,
        *,
        streams: int = 1,
        indices: Tensor | None = None,
        alignment: AlignmentEstimate | None = None,
    ) -> None:
        self.encoder = encoder
        self.tokens = tokens
        self.streams = streams
        self.indices = encoder.all_indices(tokens.chunk(streams)[0]) if indices is None else indices
        self.alignment = alignment
        self.estimator: ModalityReliability | None = None
        """What weighs the modalities where they are joined; the network sets it if it has one."""
        self._judged: list[tuple[Tensor, Tensor]] = []
        """Search tokens of both modalities ``(B, 2, K, C)`` for the estimator, and their places."""
        self._estimate: ReliabilityEstimate | None = None

    def before_block(self, number: int) -> None:
        """Change ``tokens`` in front of block ``number``; nothing by default."""

    def after_block(self, number: int) -> None:
        """Change ``tokens`` behind block ``number``; nothing by default."""

    def features(self) -> Tensor:
        """Return what the head reads of the K tokens that are left, ``(B, K, C)``.

        The normed search tokens, summed over the streams, by default.
        """
        first, *others = self.normed_streams()
        return sum(others, first)

    def next_state(self, state: ModelState | None) -> ModelState | None:
        """Return what the model remembers for the next frame; what it was given, by default."""
        return state

    def modality_weights(self) -> Tensor | None:
        """Return the shares of RGB and TIR for drawing, ``(B, 2)``; None if nothing weighs them."""
        estimate = self.estimate()
        return None if estimate is None else estimate.weights.mean(1) / 2

    def layer_order(self) -> Tensor | None:
        """Return the layer visited at each step for drawing; None by default."""
        return None

    def run_block(self, number: int, keep_ratio: float) -> None:
        """Run block ``number`` on the tokens, which may drop candidates."""
        self.tokens, self.indices = self.encoder.block(
            number, self.tokens, self.indices, streams=self.streams, keep_ratio=keep_ratio
        )

    def two_streams(self) -> tuple[Tensor, Tensor]:
        """Return the tokens of RGB and of TIR, ``(B, T + K, C)``, of a walk of two streams."""
        rgb, tir = self.tokens.chunk(2)
        return rgb, tir

    def normed_streams(self) -> tuple[Tensor, ...]:
        """Return the normed search tokens of each stream, ``(B, K, C)``.

        They are weighed where the network estimates the reliability of its modalities.
        """
        search = self.tokens[:, self.encoder.template_length :]
        streams = self.encoder.norm(search).chunk(self.streams)
        if self.estimator is None:
            return streams
        rgb, tir = streams
        return self.weigh(rgb, tir)

    def judge(self) -> None:
        """Keep the search tokens as they are now for the estimator.

        Raises:
            ValueError: the walk does not hold the tokens of two modalities.
        """
        rgb, tir, places = self.layer_tokens()
        if tir is None:
            raise ValueError(
                "reliability must be None in a network whose walk does not hold the tokens of both "
                f"modalities, as {type(self).__name__} does not"
            )
        length = self.encoder.template_length
        self._judged.append((torch.stack((rgb[:, length:], tir[:, length:]), dim=1), places))

    def estimate(self) -> ReliabilityEstimate | None:
        """Return how far each modality is trusted at the K tokens that are left; None by default.

        It is computed once, after the last block.
        """
        if self.estimator is None or self._estimate is not None:
            return self._estimate
        depths = []
        for tokens, places in self._judged:
            # one row per modality, as the places of both are the same
            rows = tokens.flatten(0, 1)
            before = places.repeat_interleave(2, dim=0)
            after = self.indices.repeat_interleave(2, dim=0)
            left = self.encoder.survivors(rows, before, after)
            depths.append(left.unflatten(0, (-1, 2)))
        judged = depths[0] if len(depths) == 1 else torch.stack(depths, dim=2)
        rgb, tir = judged.unbind(1)
        self._estimate = self.estimator.estimate(rgb, tir)
        return self._estimate

    def weigh(self, rgb: Tensor, tir: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens that are left, ``(B, K, C)``, each multiplied by its modality's weight.

        Without an estimator they stay as they are.
        """
        estimate = self.estimate()
        if estimate is None:
            return rgb, tir
        return rgb * estimate.weights[..., :1], tir * estimate.weights[..., 1:]

    def layer_tokens(self) -> LayerTokens:
        """Return the tokens as they are now, stream by stream."""
        if self.streams == 1:
            return LayerTokens(self.tokens, None, self.indices)
        rgb, tir = self.two_streams()
        return LayerTokens(rgb, tir, self.indices)
