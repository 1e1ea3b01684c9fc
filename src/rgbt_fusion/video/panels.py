"""What a tracker's network saw and thought at the last frame, as a strip of small pictures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD
from rgbt_fusion.frames.drawing import Picture, resize, write_text
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.models.interface import Encoding
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.tracking.tracker import Look, Tracker
from rgbt_fusion.video.overlay import COLOURS

__all__ = ["Insight", "draw_panels", "look_inside", "template_attention"]

CAPTION = 22
"""Pixels above each picture for its name."""


class Insight(NamedTuple):
    """What the network thought of one target's search crop, on its grid of S x S cells."""

    score: NDArray[np.float64]
    """``(S, S)``, in (0, 1)."""
    window: NDArray[np.float64]
    """``(S, S)``: what the scores were weighed by."""
    features: NDArray[np.float64]
    """``(S, S)``: the length of the fused feature that the head reads."""
    attention: tuple[NDArray[np.float64], ...]
    """A map ``(S, S)`` a stream, RGB first: the share of its attention that a search token gives to
the template."""
    kept: NDArray[np.bool_]
    """``(S, S)``: which search tokens were not eliminated."""
    modality_weights: tuple[float, float] | None
    """The shares of RGB and TIR, in a model that weighs them."""
    layer_order: tuple[int, ...] | None
    """The layers in the order in which they are scanned, in a model that orders them."""


def look_inside(tracker: Tracker, *, target: int = 0, layer: int | None = None) -> Insight:
    """Ask the tracker's network once more about its last frame, and for all that can be drawn.

    Args:
        tracker: a tracker after its first ``update``, with a model of this package.
        target: which one, of a batch.
        layer: the encoder block whose attention to return; None takes the one in the middle.

    Raises:
        RuntimeError: there was no frame to look at yet.
        TypeError: the model is not a :class:`~rgbt_fusion.models.network.TrackingNetwork`.
        ValueError: there is no such target or layer.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion import Tracker
        >>> from rgbt_fusion import create_model
        >>> from rgbt_fusion.video.panels import look_inside
        >>> frame = np.zeros((120, 160, 3), dtype=np.uint8)
        >>> tracker = Tracker(create_model("ainet_tiny_128"))
        >>> results = [tracker.init(frame, frame, (60, 50, 30, 20)), tracker.update(frame, frame)]
        >>> inside = look_inside(tracker)
        >>> inside.score.shape, len(inside.attention), sorted(inside.layer_order)
        ((8, 8), 2, [0, 1, 2, 3])
    """
    look, model = _last_look(tracker, target), tracker.model
    if not isinstance(model, TrackingNetwork):
        raise TypeError(
            f"the tracker's model must be a TrackingNetwork to look inside, got {type(model).__name__}"
        )
    number = model.settings.depth // 2 if layer is None else layer
    if not 0 <= number < model.settings.depth:
        raise ValueError(
            f"layer must be a block's number in [0, {model.settings.depth - 1}], got {layer}"
        )
    with torch.inference_mode():
        attention, encoding = template_attention(model, look, number)
    grid = model.settings.search_grid

    def plane(values: Tensor) -> NDArray[np.float64]:
        return values.double().cpu().numpy().reshape(grid, grid)

    kept = torch.zeros(grid * grid).scatter(0, encoding.indices[target].cpu(), 1.0)
    weights, order = encoding.modality_weights, encoding.layer_order
    return Insight(
        plane(look.output.score_map[target]),
        plane(look.window),
        plane(encoding.features[target].norm(dim=-1)),
        tuple(plane(stream[target]) for stream in attention),
        plane(kept) > 0,
        None if weights is None else (float(weights[target, 0]), float(weights[target, 1])),
        None if order is None else tuple(int(layer) for layer in order[target]),
    )


def template_attention(
    model: TrackingNetwork, look: Look, layer: int
) -> tuple[list[Tensor], Encoding]:
    r"""Return how much each search token attends to the template in one block, stream by stream.

    .. math::
        a_s = \frac{1}{H} \sum_h \sum_{t \in \text{template}}
        \mathrm{softmax}\Big(\frac{q_{h,s} K_h^T}{\sqrt{D}}\Big)_t

    Where the paper is silent: of two streams in one sequence, each search token's template is that
    of its own stream. Tokens that were eliminated before the block attend to nothing.

    Args:
        model: the network.
        look: what it saw.
        layer: the block's number.

    Shape:
        A map ``(B, S * S)`` a stream, and the encoding of the same pass.
    """
    found: list[Tensor] = []
    linear: Any = model.backbone.blocks[layer].get_submodule("attn.qkv")
    handle = linear.register_forward_hook(lambda module, inputs, output: found.append(output))
    before = [layer - 1] if layer else []
    try:
        encoding = model.encode(look.template, look.search, look.memory, layers=before)
    finally:
        handle.remove()
    indices = encoding.layers[0].indices if before else model.backbone.all_indices(look.search.rgb)
    batch, kept = indices.shape
    heads, template = model.settings.num_heads, model.backbone.template_length
    query, key, _ = found[0].unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    shares = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).float().softmax(-1).mean(1)
    maps = []
    # streams are rows of the batch, or parts of one sequence
    parts = shares.shape[1] // (template + kept)
    for rows in shares.unflatten(0, (-1, batch)):
        for part in range(parts):
            start = part * (template + kept)
            own = rows[:, start + template : start + template + kept, start : start + template].sum(
                -1
            )
            maps.append(
                torch.zeros(batch, model.backbone.search_length, device=own.device).scatter(
                    1, indices, own
                )
            )
    return maps, encoding


def draw_panels(
    tracker: Tracker, *, target: int = 0, layer: int | None = None, size: int = 160
) -> Picture:
    """Draw a strip: search crops, score map, fused features, attention to the template, tokens
    kept, weights and order.

    Args:
        tracker: a tracker after its first ``update``, with a model of this package.
        target: which one, of a batch.
        layer: the encoder block whose attention to draw; None takes the one in the middle.
        size: side of each picture.

    Shape:
        ``(size + 22, n * size, 3)`` uint8, one picture for each thing that the model has.

    Raises:
        RuntimeError, TypeError, ValueError: as :func:`look_inside`.
        ModuleNotFoundError: OpenCV is not installed.
    """
    inside, look = look_inside(tracker, target=target, layer=layer), _last_look(tracker, target)
    rgb, tir = (_crop_picture(image[target], size) for image in look.search)
    box = look.box_cxcywh_unit[target].double().cpu().numpy() * size
    tiles: list[tuple[str, Picture]] = [
        ("search RGB", _with_box(rgb, box)),
        ("search TIR", _with_box(tir, box)),
        (f"score {inside.score.max():.2f}", _with_box(_heat(inside.score, rgb, (0.0, 1.0)), box)),
        ("weighed score", _heat(inside.score * inside.window, rgb, None)),
        ("fused features", _heat(inside.features, rgb, None)),
    ]
    grounds = [("RGB", rgb), ("TIR", tir)] if len(inside.attention) == 2 else [("", rgb)]
    for (name, ground), attention in zip(grounds, inside.attention, strict=True):
        tiles.append((f"to template {name}", _heat(attention, ground, None)))
    tiles.append((f"kept {inside.kept.sum()} of {inside.kept.size}", _dimmed(rgb, inside.kept)))
    if inside.modality_weights is not None:
        tiles.append(("weights", _bars(inside.modality_weights, size)))
    if inside.layer_order is not None:
        tiles.append(("layer order", _order(inside.layer_order, size)))
    strip = np.zeros((size + CAPTION, size * len(tiles), 3), dtype=np.uint8)
    for number, (name, tile) in enumerate(tiles):
        strip[CAPTION:, number * size : (number + 1) * size] = tile
        write_text(strip, name, (number * size + 4, CAPTION - 6), (230, 230, 230))
    return strip


def _last_look(tracker: Tracker, target: int) -> Look:
    look = tracker.last_look
    if look is None:
        raise RuntimeError("the tracker has looked at no frame yet: call update first")
    if not 0 <= target < len(look.search.rgb):
        raise ValueError(
            f"target must be below the number of targets, {len(look.search.rgb)}, got {target}"
        )
    return look


def _crop_picture(image: Tensor, size: int) -> Picture:
    mean, std = (torch.tensor(row).view(3, 1, 1) for row in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = ((image.float().cpu() * std + mean) * 255).clamp(0, 255).permute(1, 2, 0)
    return resize(pixels.byte().contiguous().numpy(), size, size)


def _heat(
    values: NDArray[np.float64], ground: Picture, limits: tuple[float, float] | None
) -> Picture:
    """Lay values over a picture, blue where they are low; None stretches them from their least to
    their greatest."""
    cv2 = load_cv2()
    low, high = limits or (float(values.min()), float(values.max()))
    level = np.clip((values - low) / (high - low if high > low else 1.0) * 255, 0, 255).astype(
        np.uint8
    )
    size = ground.shape[1], ground.shape[0]
    colours = cv2.applyColorMap(
        cv2.resize(level, size, interpolation=cv2.INTER_NEAREST), cv2.COLORMAP_JET
    )
    return (0.4 * ground + 0.6 * colours[:, :, ::-1]).astype(np.uint8)


def _with_box(picture: Picture, box_cxcywh_px: NDArray[np.float64]) -> Picture:
    cv2 = load_cv2()
    x, y, width, height = np.nan_to_num(box_cxcywh_px).clip(-1e4, 1e4)
    corners = [
        (round(x - width / 2), round(y - height / 2)),
        (round(x + width / 2), round(y + height / 2)),
    ]
    drawn = picture.copy()
    cv2.rectangle(drawn, *corners, COLOURS[0], 1)
    return drawn


def _dimmed(picture: Picture, kept: NDArray[np.bool_]) -> Picture:
    size = picture.shape[0]
    rows = np.arange(size) * len(kept) // size
    return np.where(kept[rows][:, rows, None], picture, picture // 5)


def _bars(weights: Sequence[float], size: int) -> Picture:
    tile = np.full((size, size, 3), 30, dtype=np.uint8)
    for number, (name, weight) in enumerate(zip(("RGB", "TIR"), weights, strict=True)):
        left, top = (
            size * (1 + 4 * number) // 8,
            round((size - 24) * (1 - min(max(weight, 0.0), 1.0))),
        )
        tile[top : size - 24, left : left + size // 4] = COLOURS[number]
        write_text(
            tile, f"{name} {weight:.2f}", (size * number // 2 + 2, size - 8), COLOURS[number]
        )
    return tile


def _order(order: Sequence[int], size: int) -> Picture:
    """Draw which layer, from bottom to top, is scanned at which step, from left to right."""
    tile = np.full((size, size, 3), 30, dtype=np.uint8)
    edges = [number * size // len(order) for number in range(len(order) + 1)]
    for step, layer in enumerate(order):
        top, bottom, left, right = (
            size - edges[layer + 1],
            size - edges[layer],
            edges[step],
            edges[step + 1],
        )
        tile[top + 1 : bottom, left + 1 : right] = COLOURS[1]
        if len(order) <= 8:
            write_text(
                tile,
                str(layer),
                ((left + right) // 2 - 5, (top + bottom) // 2 + 5),
                (255, 255, 255),
            )
    return tile
