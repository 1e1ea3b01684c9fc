"""AnyPlace: a two-stream layer on tokens, on maps, and on pyramids of either."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_positive_int
from rgbt_fusion.shapes import check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["AnyPlace"]

Result = TypeVar("Result", covariant=True)


class _TwoStreamLayer(Protocol[Result]):
    """Anything whose ``forward`` takes two streams first."""

    def forward(self, *arguments: Any, **options: Any) -> Result: ...


class AnyPlace(TypedModule, Generic[Result]):
    r"""Put a two-stream layer anywhere in a network: on tokens, on maps, on pyramids of either.

    A layer on tokens is given the positions of a map in rows from the upper left; what it returns
    for each token goes back to its position. A layer on maps is given tokens laid out on ``grid``.
    The two levels of a pyramid at the same index are one call. Nothing is copied or learned here.

    .. math::
        x_{b,\,y W + x,\,c} \longleftrightarrow x_{b,\,c,\,y,\,x}

    Choices: with one layer, all levels of a pyramid share its weights, so they need equal channels.
    A layer says that it is made for maps by an attribute ``takes_maps = True``, as TMR, CMI, MAF
    and TPI do; every other one is given tokens. A tensor among further arguments or results is laid
    out anew if it has the shape of a stream; a state of one value per sample stays as it is.

    Args:
        layers: one layer, or one per level of a pyramid; anything called ``layer(rgb, tir, ...)``.
        grid: height and width of the map that tokens stand for; only a layer on maps that is given
            tokens reads it.

    Shape:
        - rgb, tir: tokens ``(B, L, C)``, maps ``(B, C, H, W)``, or a list with one of them per
          level
        - further arguments: as the layer takes them, such as a history; for a pyramid one per
          level, or ``None``
        - returns what the layer returns, laid out as the streams; for a pyramid a list with one
          result per level

    Raises:
        TypeError: ``layers`` holds something else than modules; ``rgb`` or ``tir`` is neither a
            tensor nor a list.
        ShapeError: ``tir`` differs from ``rgb`` in shape or number of levels, a pyramid has another
            number of levels than there are layers, or tokens do not fill ``grid``; as the layer
            raises it.
        ValueError: ``layers`` is empty; ``grid`` is missing where a layer on maps is given tokens.

    Example:
        >>> import torch
        >>> from rgbt_fusion import DFM, AnyPlace
        >>> fuse = AnyPlace([DFM(16), DFM(32)])  # one per level
        >>> rgb = [torch.randn(2, 16, 8, 8), torch.randn(2, 32, 4, 4)]
        >>> tir = [torch.randn(2, 16, 8, 8), torch.randn(2, 32, 4, 4)]
        >>> [out.fused.shape for out in fuse(rgb, tir)]
        [torch.Size([2, 16, 8, 8]), torch.Size([2, 32, 4, 4])]
    """

    def __init__(
        self,
        layers: _TwoStreamLayer[Result] | Sequence[_TwoStreamLayer[Result]],
        *,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.one_for_all_levels = not isinstance(layers, Sequence)
        given = list(layers) if isinstance(layers, Sequence) else [layers]
        if not given:
            raise ValueError("layers must hold at least one layer, got none")
        for layer in given:
            if not isinstance(layer, nn.Module):
                raise TypeError(f"layers must be modules, got {type(layer).__name__}")
        self.layers = nn.ModuleList(cast(list[nn.Module], given))
        self.grid = None
        if grid is not None:
            height, width = grid
            self.grid = (
                check_positive_int(height, name="the height of grid"),
                check_positive_int(width, name="the width of grid"),
            )

    @overload
    def forward(self, rgb: Tensor, tir: Tensor, *more: Any) -> Result: ...
    @overload
    def forward(self, rgb: Sequence[Tensor], tir: Sequence[Tensor], *more: Any) -> list[Result]: ...
    def forward(
        self, rgb: Tensor | Sequence[Tensor], tir: Tensor | Sequence[Tensor], *more: Any
    ) -> Result | list[Result]:
        """Call the layer on two streams, or level by level on two pyramids of them."""
        if isinstance(rgb, Tensor):
            if not self.one_for_all_levels:
                raise ShapeError(
                    f"rgb must be a list of {len(self.layers)} levels, one per layer, "
                    f"got a tensor of shape {tuple(rgb.shape)}"
                )
            return self._call(self.layers[0], "", rgb, tir, more)
        levels = self._levels(rgb, tir, more)
        return [self._call(*level) for level in levels]

    if TYPE_CHECKING:

        @overload
        def __call__(self, rgb: Tensor, tir: Tensor, *more: Any) -> Result: ...
        @overload
        def __call__(
            self, rgb: Sequence[Tensor], tir: Sequence[Tensor], *more: Any
        ) -> list[Result]: ...
        def __call__(self, *arguments: Any, **options: Any) -> Any:  # pyright: ignore
            """Call ``forward`` and the hooks."""
            ...

    def _levels(
        self, rgb: Any, tir: Any, more: tuple[Any, ...]
    ) -> list[tuple[nn.Module, str, Any, Any, tuple[Any, ...]]]:
        """Return the layer, the place and the arguments of each level."""
        count = len(rgb) if isinstance(rgb, Sequence) else None
        for name, x in {"rgb": rgb, "tir": tir}.items():
            if not isinstance(x, Sequence):
                raise TypeError(
                    f"{name} must be tokens, a map, or a list with one of them per level, "
                    f"got {type(x).__name__}"
                )
            wanted = count if self.one_for_all_levels else len(self.layers)
            if len(x) != wanted:
                why = "as rgb has" if self.one_for_all_levels else "one per layer"
                raise ShapeError(f"{name} must have {wanted} levels, {why}, got {len(x)}")
        levels = []
        for index, (rgb_level, tir_level) in enumerate(zip(rgb, tir, strict=True)):
            layer = self.layers[0 if self.one_for_all_levels else index]
            more_level = tuple(None if one is None else one[index] for one in more)
            levels.append((layer, f"[{index}]", rgb_level, tir_level, more_level))
        return levels

    def _call(
        self, layer: nn.Module, place: str, rgb: Tensor, tir: Any, more: tuple[Any, ...]
    ) -> Result:
        """Call a layer with its streams laid out as it takes them."""
        on_maps = getattr(layer, "takes_maps", False)
        rank = rgb.dim() if isinstance(rgb, Tensor) else None
        if on_maps and rank == 3:
            to_layer = _to_map(self._grid_for(rgb, f"rgb{place}"))
            from_layer = _to_tokens
        elif not on_maps and rank == 4:
            sizes = check_shape(rgb, "B C H W", name=f"rgb{place}")
            to_layer = _to_tokens
            from_layer = _to_map((sizes["H"], sizes["W"]))
        else:
            return layer(rgb, tir, *more)
        check_same_shape(tir, rgb, name=f"tir{place}", like_name=f"rgb{place}")
        return _each_tensor(from_layer, layer(*_each_tensor(to_layer, (rgb, tir, *more))))

    def _grid_for(self, tokens: Tensor, name: str) -> tuple[int, int]:
        """Return the grid, if the tokens fill it."""
        if self.grid is None:
            raise ValueError(
                "grid must be the height and width of the map that the tokens stand for, got None"
            )
        height, width = self.grid
        if tokens.shape[1] != height * width:
            raise ShapeError(
                f"{name} must have the {height} x {width} tokens of grid, got {tuple(tokens.shape)}"
            )
        return self.grid

    def extra_repr(self) -> str:
        """Show the options; the layers stand below."""
        return f"grid={self.grid}"


def _to_tokens(x: Tensor) -> Tensor:
    """Return a map as tokens in rows."""
    return x.flatten(2).mT if x.dim() == 4 else x


def _to_map(grid: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """Return what lays tokens out on a grid, and leaves everything else."""

    def to_map(x: Tensor) -> Tensor:
        if x.dim() != 3 or x.shape[1] != grid[0] * grid[1]:
            return x
        return x.mT.unflatten(2, grid)

    return to_map


def _each_tensor(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Change every tensor of a (named) tuple, at any depth."""
    if isinstance(tree, Tensor):
        return change(tree)
    if not isinstance(tree, tuple):
        return tree
    changed = [_each_tensor(change, one) for one in tree]
    if hasattr(tree, "_fields"):
        return type(tree)(*changed)
    return tuple(changed)
