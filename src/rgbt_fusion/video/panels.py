"""What a tracker's network saw and computed at the last frame, as a strip of small pictures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD
from rgbt_fusion.frames.drawing import Picture, draw_rectangle, draw_text, resize
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.models.interface import Encoding
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.tracking.tracker import Look, Tracker
from rgbt_fusion.video.overlay import COLOURS

__all__ = ["CAPTION", "Insight", "draw_panels", "look_inside", "template_attention"]

CAPTION = 22
"""Pixels above each picture for its name."""

LABEL = 24
"""Pixels below the bars for their names."""

GROUND = 30
"""Grey of a tile that shows no image."""

MOST_STEPS_WITH_NUMBERS = 8
"""Tiles of a longer order are too small for numbers."""


class Insight(NamedTuple):
    """What the network computed for one target's search crop, on its grid of S x S cells."""

    score: NDArray[np.float64]
    """``(S, S)``, in (0, 1)."""
    window: NDArray[np.float64]
    """``(S, S)``: what the scores are multiplied by."""
    features: NDArray[np.float64]
    """``(S, S)``: the length of the fused feature that the head reads."""
    attention: tuple[NDArray[np.float64], ...]
    """One map ``(S, S)`` per stream, RGB first: the share of its attention that a search token
    gives to the template."""
    kept: NDArray[np.bool_]
    """``(S, S)``: which search tokens were not eliminated."""
    modality_weights: tuple[float, float] | None
    """The shares of RGB and TIR; None if the model does not weigh them."""
    layer_order: tuple[int, ...] | None
    """The layers in the order in which they are scanned; None if the model does not order them."""
    reliability: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """How far RGB and TIR are trusted, a map ``(S, S)`` in (0, 1) each; None if the model does not
    estimate it."""


def look_inside(tracker: Tracker, *, target: int = 0, layer: int | None = None) -> Insight:
    """Run the tracker's network once more on its last frame and return all that can be drawn.

    Args:
        tracker: a tracker after its first ``update``, with a model of this package.
        target: index of the target in a batch.
        layer: the encoder block whose attention to return; None takes the one in the middle.

    Raises:
        RuntimeError: ``tracker`` has had no ``update`` yet.
        TypeError: the model of ``tracker`` is not a
            :class:`~rgbt_fusion.models.network.TrackingNetwork`.
        ValueError: ``target`` or ``layer`` does not exist.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion import Tracker, create_model
        >>> from rgbt_fusion.video.panels import look_inside
        >>> frame = np.zeros((120, 160, 3), dtype=np.uint8)
        >>> tracker = Tracker(create_model("ainet_tiny_128"))
        >>> results = [tracker.init(frame, frame, (60, 50, 30, 20)), tracker.update(frame, frame)]
        >>> inside = look_inside(tracker)
        >>> inside.score.shape, len(inside.attention), sorted(inside.layer_order)
        ((8, 8), 2, [0, 1, 2, 3])
    """
    look = _last_look(tracker, target)
    model = tracker.model
    if not isinstance(model, TrackingNetwork):
        raise TypeError(
            "the tracker's model must be a TrackingNetwork to look inside, "
            f"got {type(model).__name__}"
        )
    depth = model.settings.depth
    if layer is None:
        layer = depth // 2
    if not 0 <= layer < depth:
        raise ValueError(f"layer must be a block's number in [0, {depth - 1}], got {layer}")
    with torch.inference_mode():
        attention, encoding = template_attention(model, look, layer)

    grid = model.settings.search_grid

    def plane(values: Tensor) -> NDArray[np.float64]:
        return values.double().cpu().numpy().reshape(grid, grid)

    kept = torch.zeros(grid * grid)
    kept[encoding.indices[target].cpu()] = 1.0
    modality_weights = None
    if encoding.modality_weights is not None:
        share_rgb, share_tir = encoding.modality_weights[target].tolist()
        modality_weights = (share_rgb, share_tir)
    layer_order = None
    if encoding.layer_order is not None:
        layer_order = tuple(int(number) for number in encoding.layer_order[target])
    reliability = None
    if encoding.reliability is not None:
        trusted_rgb, trusted_tir = encoding.reliability[target].unbind(-1)
        reliability = (plane(trusted_rgb), plane(trusted_tir))
    return Insight(
        score=plane(look.output.score_map[target]),
        window=plane(look.window),
        features=plane(encoding.features[target].norm(dim=-1)),
        attention=tuple(plane(stream[target]) for stream in attention),
        kept=plane(kept) > 0,
        modality_weights=modality_weights,
        layer_order=layer_order,
        reliability=reliability,
    )


def template_attention(
    model: TrackingNetwork, look: Look, layer: int
) -> tuple[list[Tensor], Encoding]:
    r"""Return how much each search token attends to the template in one block, stream by stream.

    .. math::
        a_s = \frac{1}{H} \sum_h \sum_{t \in \text{template}}
        \mathrm{softmax}\Big(\frac{q_{h,s} K_h^T}{\sqrt{D}}\Big)_t

    Choices: of two streams in one sequence, each search token's template is that of its own stream.
    Tokens that were eliminated before the block attend to nothing.

    Args:
        model: the network.
        look: what the network saw.
        layer: number of the block.

    Shape:
        - returns one map ``(B, S * S)`` per stream, and the encoding of the same pass
    """
    found: list[Tensor] = []
    projection: Any = model.backbone.blocks[layer].get_submodule("attn.qkv")
    handle = projection.register_forward_hook(lambda module, inputs, out: found.append(out))
    block_before = [layer - 1] if layer else []
    try:
        encoding = model.encode(look.template, look.search, look.memory, layers=block_before)
    finally:
        handle.remove()
    if block_before:
        indices = encoding.layers[0].indices
    else:
        indices = model.backbone.all_indices(look.search.rgb)

    attention = _attention(found[0], model.settings.num_heads)
    batch, kept = indices.shape
    template = model.backbone.template_length
    length = template + kept
    maps = []
    # a second stream is more rows of the batch, or a second part of the sequence
    for rows in attention.unflatten(0, (-1, batch)):
        for start in range(0, rows.shape[1], length):
            to_template = rows[:, start + template : start + length, start : start + template]
            empty = torch.zeros(batch, model.backbone.search_length, device=rows.device)
            maps.append(empty.scatter(1, indices, to_template.sum(-1)))
    return maps, encoding


def _attention(qkv: Tensor, heads: int) -> Tensor:
    """Return the mean attention of the heads, ``(B, L, L)``, from ``(B, L, 3 C)``."""
    query, key, _ = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return scores.float().softmax(-1).mean(1)


def draw_panels(
    tracker: Tracker, *, target: int = 0, layer: int | None = None, size: int = 160
) -> Picture:
    """Draw what the network saw and computed as a strip of pictures.

    They are the search crops, the score map, the fused features, the attention to the template and
    the tokens kept; then the reliability and the weights of the modalities and the order of the
    layers, if the model has them.

    Args:
        tracker: a tracker after its first ``update``, with a model of this package.
        target: index of the target in a batch.
        layer: the encoder block whose attention to draw; None takes the one in the middle.
        size: side of each picture.

    Shape:
        - returns ``(size + 22, n * size, 3)`` uint8 with n pictures

    Raises:
        RuntimeError, TypeError, ValueError: as :func:`look_inside`.
        ModuleNotFoundError: OpenCV is not installed.
    """
    inside = look_inside(tracker, target=target, layer=layer)
    look = _last_look(tracker, target)
    rgb = _crop_picture(look.search.rgb[target], size)
    tir = _crop_picture(look.search.tir[target], size)
    box_px = look.box_cxcywh_unit[target].double().cpu().numpy() * size

    score = _heat(inside.score, rgb, limits=(0.0, 1.0))
    tiles: list[tuple[str, Picture]] = [
        ("search RGB", _with_box(rgb, box_px)),
        ("search TIR", _with_box(tir, box_px)),
        (f"score {inside.score.max():.2f}", _with_box(score, box_px)),
        ("weighed score", _heat(inside.score * inside.window, rgb)),
        ("fused features", _heat(inside.features, rgb)),
    ]
    if len(inside.attention) == 2:
        attention_rgb, attention_tir = inside.attention
        tiles.append(("to template RGB", _heat(attention_rgb, rgb)))
        tiles.append(("to template TIR", _heat(attention_tir, tir)))
    else:
        (attention,) = inside.attention
        tiles.append(("to template ", _heat(attention, rgb)))
    tiles.append((f"kept {inside.kept.sum()} of {inside.kept.size}", _dimmed(rgb, inside.kept)))
    if inside.reliability is not None:
        for name, trusted, ground in zip(
            ("RGB", "TIR"), inside.reliability, (rgb, tir), strict=True
        ):
            mean = trusted[inside.kept].mean()
            tile = _heat(trusted, ground, limits=(0.0, 1.0))
            tiles.append((f"trust {name} {mean:.2f}", tile))
    if inside.modality_weights is not None:
        tiles.append(("weights", _bars(inside.modality_weights, size)))
    if inside.layer_order is not None:
        tiles.append(("layer order", _order(inside.layer_order, size)))
    return _strip(tiles, size)


def _strip(tiles: Sequence[tuple[str, Picture]], size: int) -> Picture:
    strip = np.zeros((size + CAPTION, size * len(tiles), 3), dtype=np.uint8)
    for number, (name, tile) in enumerate(tiles):
        left = number * size
        strip[CAPTION:, left : left + size] = tile
        draw_text(strip, name, (left + 4, CAPTION - 6), (230, 230, 230))
    return strip


def _last_look(tracker: Tracker, target: int) -> Look:
    look = tracker.last_look
    if look is None:
        raise RuntimeError("the tracker has looked at no frame yet: call update first")
    targets = len(look.search.rgb)
    if not 0 <= target < targets:
        raise ValueError(f"target must be below the number of targets, {targets}, got {target}")
    return look


def _crop_picture(image: Tensor, size: int) -> Picture:
    """Return a normalised crop ``(3, H, W)`` as a picture."""
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    colours = image.float().cpu() * std + mean
    pixels = (colours * 255).clamp(0, 255).byte()
    return resize(pixels.permute(1, 2, 0).contiguous().numpy(), size, size)


def _heat(
    values: NDArray[np.float64], ground: Picture, *, limits: tuple[float, float] | None = None
) -> Picture:
    """Lay values over a picture, blue for low and red for high.

    ``limits`` become the ends of the scale; None takes the least and the greatest value.
    """
    cv2 = load_cv2()
    low, high = limits or (float(values.min()), float(values.max()))
    contrast = high - low if high > low else 1.0
    level = np.clip((values - low) / contrast * 255, 0, 255).astype(np.uint8)
    height, width = ground.shape[:2]
    cells = cv2.resize(level, (width, height), interpolation=cv2.INTER_NEAREST)
    colours = cv2.applyColorMap(cells, cv2.COLORMAP_JET)[:, :, ::-1]
    return (0.4 * ground + 0.6 * colours).astype(np.uint8)


def _with_box(picture: Picture, box_cxcywh_px: NDArray[np.float64]) -> Picture:
    x, y, width, height = box_cxcywh_px
    box_xyxy_px = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    drawn = picture.copy()
    draw_rectangle(drawn, box_xyxy_px, COLOURS[0])
    return drawn


def _dimmed(picture: Picture, kept: NDArray[np.bool_]) -> Picture:
    """Return the picture with the cells that are not kept in the dark."""
    size = picture.shape[0]
    cell = np.arange(size) * len(kept) // size
    bright = kept[cell][:, cell]
    return np.where(bright[:, :, None], picture, picture // 5)


def _bars(weights: Sequence[float], size: int) -> Picture:
    """Draw the shares of the modalities as two bars."""
    tile = np.full((size, size, 3), GROUND, dtype=np.uint8)
    floor = size - LABEL
    for number, (name, weight) in enumerate(zip(("RGB", "TIR"), weights, strict=True)):
        left = size * (1 + 4 * number) // 8
        share = min(max(weight, 0.0), 1.0)
        top = round(floor * (1 - share))
        tile[top:floor, left : left + size // 4] = COLOURS[number]
        place = (size * number // 2 + 2, size - 8)
        draw_text(tile, f"{name} {weight:.2f}", place, COLOURS[number])
    return tile


def _order(order: Sequence[int], size: int) -> Picture:
    """Draw which layer, from bottom to top, is scanned at which step, from left to right."""
    tile = np.full((size, size, 3), GROUND, dtype=np.uint8)
    edges = [number * size // len(order) for number in range(len(order) + 1)]
    for step, layer in enumerate(order):
        left = edges[step]
        right = edges[step + 1]
        top = size - edges[layer + 1]
        bottom = size - edges[layer]
        tile[top + 1 : bottom, left + 1 : right] = COLOURS[1]
        if len(order) <= MOST_STEPS_WITH_NUMBERS:
            place = ((left + right) // 2 - 5, (top + bottom) // 2 + 5)
            draw_text(tile, str(layer), place, (255, 255, 255))
    return tile
