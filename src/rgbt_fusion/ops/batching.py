"""How ``torch.func.vmap`` batches an op: its axis becomes directions.

A direction has arguments of its own, and shares those whose leading size is 1. That is what a
sample of vmap needs: V samples of R directions are V R directions. Gradients come out per sample,
also those of the parameters that the samples share.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

__all__ = ["Samples"]


class Samples:
    """The samples of one call under vmap.

    Args:
        count: V.
        tensors: the tensors among the op's arguments by name, None where absent.
        axes: where each of them has the axis of vmap, None where it has none.
    """

    def __init__(
        self, count: int, tensors: Mapping[str, Tensor | None], axes: Mapping[str, int | None]
    ) -> None:
        self.count = count
        self._tensors = tensors
        self._axes = axes
        self._leading: dict[str, int] = {}
        for name, x in tensors.items():
            if x is not None:
                self._leading[name] = x.shape[1 if axes[name] == 0 else 0]
        self.directions = max(self._leading.values())

    def fold(self, x: Tensor | None, axis: int | None) -> Tensor | None:
        """Return a tensor that every sample and direction has of its own, as ``(V R, ...)``."""
        if x is None:
            return None
        if axis is None:
            x = x[None].expand(self.count, *x.shape)
        else:
            x = x.movedim(axis, 0)
        return x.expand(self.count, self.directions, *x.shape[2:]).flatten(0, 1)

    def folded(self, *, shared: Iterable[str]) -> dict[str, Tensor | None]:
        """Return the tensors as ``(V R, ...)``, but those named shared by all as they are."""
        result: dict[str, Tensor | None] = {}
        for name, x in self._tensors.items():
            axis = self._axes[name]
            if x is not None and axis is None and len(x) == 1 and name in shared:
                result[name] = x
            else:
                result[name] = self.fold(x, axis)
        return result

    def unfold(self, x: Tensor, *, add_directions: bool = False) -> Tensor:
        """Return ``(V R, ...)`` as ``(V, R, ...)``, or as ``(V, 1, ...)`` if added up."""
        x = x.unflatten(0, (self.count, self.directions))
        return x.sum(1, keepdim=True) if add_directions else x

    def unfold_gradients(
        self, gradients: Mapping[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        """Return the gradients of the op, per sample, and where they have the axis of vmap."""
        unfolded: list[Tensor] = []
        axes: list[int | None] = []
        for name, gradient in gradients.items():
            if name not in self._leading:
                unfolded.append(gradient)
                axes.append(None)
                continue
            add_directions = self._leading[name] < self.directions
            unfolded.append(self.unfold(gradient, add_directions=add_directions))
            axes.append(0)
        return tuple(unfolded), tuple(axes)
