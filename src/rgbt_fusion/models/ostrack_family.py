"""An adapter for networks that have the interface of OSTrack's code."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import NetworkError, check_choice, check_finite_number, check_positive_int
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import ModelOutput
from rgbt_fusion.typed_module import TypedModule

__all__ = ["FamilyImages", "OSTrackFamily"]

FamilyImages: TypeAlias = Literal["six_channels", "list", "rgb", "tir"]
"""How a network takes the two images."""

_IMAGES: tuple[FamilyImages, ...] = ("six_channels", "list", "rgb", "tir")


class OSTrackFamily(TypedModule):
    """Let a network with the interface of OSTrack's code go through the doors of this package.

    Such a network is called ``network(template, search)`` and returns a dictionary with
    ``pred_boxes`` and ``score_map``, as OSTrack, ViPT, BAT, SDSTrack and TBSI do. With ``size_map``
    and ``offset_map`` in the dictionary the box is read under the tracker's window; without them
    the predicted box is taken.

    Choices: a file of weights holds the parameters of ``network`` below ``network.``.

    Args:
        network: the network.
        template_size: side of the template crop in pixels.
        search_size: side of the search crop in pixels.
        search_factor: side of the search crop over the square root of the target's area.
        images: how the network takes both images: ``"six_channels"`` joined, RGB first (ViPT, BAT,
            SDSTrack), ``"list"`` as ``[rgb, tir]`` (TBSI), ``"rgb"`` or ``"tir"`` alone (OSTrack).

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised
        - returns :class:`ModelOutput`

    Raises:
        ValueError: a size is below 1, ``search_factor`` is below 1, ``images`` is unknown; the
            network's answer lacks ``pred_boxes`` or ``score_map``.
        TypeError: the network does not return a dictionary.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from rgbt_fusion import ImagePair
        >>> from rgbt_fusion.models.ostrack_family import OSTrackFamily
        >>> class Theirs(nn.Module):
        ...     def forward(self, template, search):
        ...         boxes = search.new_tensor([[[0.5, 0.5, 0.2, 0.3]]])
        ...         return {"pred_boxes": boxes, "score_map": search.new_full((1, 1, 8, 8), 0.6)}
        >>> model = OSTrackFamily(Theirs(), template_size=64, search_size=128)
        >>> pair = ImagePair(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
        >>> model(pair, pair).box_cxcywh_unit
        tensor([[0.5000, 0.5000, 0.2000, 0.3000]])

    Source:
        Ye et al., "OSTrack", ECCV 2022 (their code).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        template_size: int = 128,
        search_size: int = 256,
        search_factor: float = 4.0,
        images: FamilyImages = "six_channels",
    ) -> None:
        super().__init__()
        self.network = network
        self.template_size = check_positive_int(template_size, name="template_size")
        self.search_size = check_positive_int(search_size, name="search_size")
        self.search_factor = check_finite_number(search_factor, name="search_factor", low=1.0)
        self.images: FamilyImages = check_choice(images, _IMAGES, name="images")

    def forward(self, template: ImagePair, search: ImagePair, state: None = None) -> ModelOutput:
        """Look for the target of the template in the search crop."""
        answer = self.network(self._as_they_take(template), self._as_they_take(search))
        if not isinstance(answer, Mapping):
            raise NetworkError(
                f"{type(self.network).__name__} must return a dictionary, "
                f"got {type(answer).__name__}"
            )
        lacking = [name for name in ("pred_boxes", "score_map") if name not in answer]
        if lacking:
            raise ValueError(
                f"{type(self.network).__name__} must return pred_boxes and score_map, got "
                f"{', '.join(answer)} without {' and '.join(lacking)}"
            )
        return _as_output(answer)

    def _as_they_take(self, pair: ImagePair) -> Any:
        if self.images == "six_channels":
            return torch.cat(pair, dim=1)
        if self.images == "list":
            return [pair.rgb, pair.tir]
        return pair.rgb if self.images == "rgb" else pair.tir


def _as_output(answer: Mapping[str, Any]) -> ModelOutput:
    """Return the answer of a network of the family as one of ours."""
    score_map = answer["score_map"]
    dtype = torch.promote_types(score_map.dtype, torch.float32)
    score_map = score_map.to(dtype).clamp(1e-4, 1 - 1e-4)
    # (B, queries, 4), of which this family has one
    box = answer["pred_boxes"].to(dtype).reshape(len(score_map), -1, 4).mean(1)
    if "size_map" in answer and "offset_map" in answer:
        size_map = answer["size_map"].to(dtype)
        offset_map = answer["offset_map"].to(dtype)
    else:
        size_map, offset_map = _maps_of_one_box(box, score_map.shape[-1])
    return ModelOutput(
        score_map=score_map,
        score_logits=score_map.logit(),
        size_map=size_map,
        offset_map=offset_map,
        box_cxcywh_unit=box,
        state=None,
    )


def _maps_of_one_box(box: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Return size and offset maps in which every cell of the grid says the same box."""
    cells = torch.arange(grid, device=box.device, dtype=box.dtype)
    rows, columns = torch.meshgrid(cells, cells, indexing="ij")
    centre = box[:, :2, None, None] * grid
    size_map = box[:, 2:, None, None].expand(-1, -1, grid, grid)
    return size_map, centre - torch.stack((columns, rows))
