"""An ``nn.Module`` whose call has the type of its ``forward``."""

from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from torch import nn

__all__ = ["TypedModule"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result", covariant=True)


class HasForward(Protocol[Parameters, Result]):
    """Anything with a ``forward``, whatever its arguments and its result."""

    def forward(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        """Return the result."""
        ...


class TypedModule(nn.Module):
    """The base of every layer, loss and network: a type checker knows what calling it returns.

    ``nn.Module`` declares its call as ``Callable[..., Any]``, which hides the signature of
    ``forward``. Here the call takes what ``forward`` takes and returns what it returns. At run
    time nothing is added.

    Example:
        >>> from torch import Tensor
        >>> from rgbt_fusion.typed_module import TypedModule
        >>> class Double(TypedModule):
        ...     def forward(self, x: Tensor) -> Tensor:
        ...         return 2 * x
        >>> doubled = Double()  # doubled(x) is a Tensor for a type checker, doubled(y=x) an error
    """

    if TYPE_CHECKING:

        def __call__(
            self: HasForward[Parameters, Result],
            *args: Parameters.args,
            **kwargs: Parameters.kwargs,
        ) -> Result:
            """Call ``forward`` and the hooks."""
            ...
