"""A network as a tracker runs it: what follows from its parameters alone is computed once."""

import copy
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.models.head import BRANCHES, CenterHead, HeadMaps, clamped_sigmoid
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.shapes import check_shape

__all__ = ["FoldedHead", "InferenceForm", "inference_form", "keep_freed_memory"]

LARGEST_KEPT = 2**25 - 2**12
"""Bytes: a little below what glibc's allocator takes at most for a block of its own making."""


class InferenceForm:
    """A network for inference on a CPU or a card, which follows the network it was made of.

    Its head is a :class:`FoldedHead`, and what the Mambas make of their parameters alone (decay
    rates, float32 copies of half-precision ones) is kept. All else, parameters included, is shared
    with the network. The answers are equal to rounding.

    Choices: nothing is kept that can grow old unseen. Before each call the form looks at the
    identity, the memory and the version of what it made its own from, and makes it again where
    something changed: an optimiser's step, ``load_state_dict``, ``to``, a new parameter.
    ``refresh`` makes it again in any case; that is needed after a change in inference mode or
    through ``tensor.data``, which leaves no trace. What is made again stays in its memory where
    dtype, device and shape allow, so that a CUDA graph or compiled code that reads it stays valid.
    The network itself runs in training mode, on other devices, and where its head has hooks or is
    not a plain :class:`~rgbt_fusion.models.head.CenterHead`.

    Args:
        network: the network to run.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> from rgbt_fusion.models.inference import InferenceForm
        >>> network = create_model("ainet_tiny_128", pretrained=True).eval()
        >>> template = ImagePair(*torch.rand(2, 1, 3, 64, 64))
        >>> search = ImagePair(*torch.rand(2, 1, 3, 128, 128))
        >>> with torch.inference_mode():
        ...     boxes = [run(template, search).box_cxcywh_unit
        ...              for run in (network, InferenceForm(network).current())]
        >>> torch.allclose(*boxes, atol=1e-4)
        True
    """

    def __init__(self, network: TrackingNetwork) -> None:
        self._network = network
        self._shadow = copy.copy(network)
        self._head: FoldedHead | None = None
        self._kept: list[_Kept] | None = None
        self._fold_again = False

    def current(self) -> TrackingNetwork:
        """Return what to call now: the network with a folded head, or the network itself."""
        head = self._network.box_head
        seen = _look(head)
        if seen is None:
            return self._network
        if self._head is None or self._head.source is not head:
            self._head = FoldedHead(head)
        elif self._fold_again or seen.marks != self._head.seen.marks:
            self._head.fold()
        self._prepare()
        self._fold_again = False
        self._share_all_but_the_head(self._head)
        return self._shadow

    def refresh(self) -> None:
        """Fold again before the next call, whether or not a change shows."""
        self._fold_again = True

    def _prepare(self) -> None:
        """Make again what the layers make of their parameters, where they changed."""
        if self._kept is None or self._fold_again:
            known = {kept.layer: kept for kept in self._kept or ()}
            layers = [layer for layer in self._network.modules() if _prepares(layer)]
            self._kept = [known.get(layer) or _Kept(layer) for layer in layers]
        for kept in self._kept:
            kept.follow(anyway=self._fold_again)

    def _prepared(self) -> dict[nn.Module, Any]:
        """Return what the layers made, but of those that must be called as a whole."""
        return {kept.layer: kept.made for kept in self._kept or () if kept.made is not None}

    def _share_all_but_the_head(self, head: "FoldedHead") -> None:
        """Give the shadow every attribute that the network has now.

        What has not changed is left alone, so that code compiled for the shadow stays valid.
        """
        attributes = dict(self._network.__dict__)
        attributes["_modules"] = {**self._network._modules, "box_head": head}
        attributes["prepared"] = self._prepared()
        mine = self._shadow.__dict__
        if _same_things(mine["_modules"], attributes["_modules"]):
            attributes["_modules"] = mine["_modules"]
        if _same_things(mine["prepared"], attributes["prepared"]):
            attributes["prepared"] = mine["prepared"]
        if not _same_things(mine, attributes):
            mine.clear()
            mine.update(attributes)


def inference_form(model: object) -> InferenceForm | None:
    """Return the form of a network of this package; None for any other.

    A network from elsewhere may write to its own attributes while it runs: its form would keep what
    is written to itself.
    """
    is_of_this_package = type(model).__module__.partition(".")[0] == __name__.partition(".")[0]
    if isinstance(model, TrackingNetwork) and is_of_this_package:
        return InferenceForm(model)
    return None


@functools.cache
def keep_freed_memory() -> None:
    """Let the allocator keep the memory of freed tensors; once in a process.

    glibc's allocator gives blocks above a threshold back to the system when they are freed, and
    each page of the next one must be fetched and zeroed again: hundreds per frame of a small
    network. The threshold follows the largest block that was freed. One is taken and freed here,
    never touched, which costs no memory. Other allocators notice nothing.
    """
    torch.empty(LARGEST_KEPT, dtype=torch.uint8)


class _Seen(NamedTuple):
    """Some parameters and buffers, and what shows that one of them changed."""

    tensors: list[Tensor]
    """Held, so that no other tensor gets the identity of one of them."""
    marks: list[int]
    """Identity, address and version of each."""


class FoldedHead(nn.Module):
    r"""The centre head with each BatchNorm inside its convolution.

    .. math::
        W' = \frac{\gamma}{\sqrt{v + \epsilon}} W, \qquad
        b' = \frac{\gamma}{\sqrt{v + \epsilon}} (b - m) + \beta

    The first convolutions of the three branches read the same tokens: they are one with three times
    the channels. All weights lie in memory as the maps do, channels last.

    Args:
        head: the head to run; its parameters stay its own.

    Shape:
        - tokens: ``(B, S * S, C)`` in raster order
        - returns :class:`~rgbt_fusion.models.head.HeadMaps`

    Raises:
        ValueError: ``head`` is in training mode, on another device, or changed by hooks or other
            layers than its own.
        ShapeError: ``tokens`` does not have the shape above.

    Example:
        >>> import torch
        >>> from rgbt_fusion.models.head import CenterHead
        >>> from rgbt_fusion.models.inference import FoldedHead
        >>> head = CenterHead(32, channels=16, grid=8).eval()
        >>> tokens = torch.randn(1, 64, 32)
        >>> torch.allclose(FoldedHead(head)(tokens).size, head(tokens).size, atol=1e-5)
        True
    """

    def __init__(self, head: CenterHead) -> None:
        super().__init__()
        # in a tuple, so that it is no child: its parameters are not those of the form
        self._source = (head,)
        self.seen = _Seen([], [])
        """What was folded."""
        self.fold()

    @property
    def source(self) -> CenterHead:
        """The head that is folded."""
        return self._source[0]

    def fold(self) -> None:
        """Compute the weights again.

        They stay the same tensors where dtype and shape allow, so that what was compiled with them
        stays valid.
        """
        seen = _look(self.source)
        if seen is None:
            raise ValueError(
                "head must be a CenterHead in evaluation mode on the cpu or a card, without hooks"
            )
        self.seen = seen
        # plain tensors, wherever this is called: a tensor of inference mode cannot be changed later
        with torch.inference_mode(False), torch.no_grad():
            for name, new in _folded(self.source).items():
                old = self._buffers.get(name)
                if old is None or not _fits(old, new):
                    self.register_buffer(name, new)
                else:
                    old.copy_(new)

    def forward(self, tokens: Tensor) -> HeadMaps:
        """Return the maps ``(B, ..., S, S)`` of the search tokens ``(B, S * S, C)``."""
        head = self.source
        check_shape(tokens, "B L C", L=head.grid**2, C=head.dim, name="tokens")
        features = rearrange(tokens, "b (h w) c -> b c h w", h=head.grid)
        first = F.conv2d(features, self._tensor("weight1"), self._tensor("bias1"), padding=1)
        maps = {}
        for branch, x in zip(BRANCHES, first.relu_().chunk(len(BRANCHES), dim=1), strict=True):
            for depth in (2, 3, 4):
                weight = self._tensor(f"weight{depth}_{branch}")
                x = F.conv2d(x, weight, self._tensor(f"bias{depth}_{branch}"), padding=1).relu_()
            x = head.get_submodule(f"conv5_{branch}")(x)
            # float32 at least, as in the head
            maps[branch] = x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()
        return HeadMaps(maps["ctr"], clamped_sigmoid(maps["size"]), maps["offset"])

    def _tensor(self, name: str) -> Tensor:
        return cast(Tensor, self._buffers[name])


def _prepares(layer: nn.Module) -> bool:
    """Say whether a layer prepares something: its very class, as another one computes otherwise."""
    own = vars(type(layer))
    return "prepare" in own and "forward" in own


class _Kept:
    """What one layer made of its parameters, and what shows that it must make it again.

    Args:
        layer: its ``prepare`` returns a named tuple of tensors, made of what ``prepared_from``
            returns, or None where it cannot.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self._parts: list[nn.Module] = [*layer.modules()]
        self.made: Any = None
        """What ``prepare`` returned; None where the layer must be called as a whole."""
        self._seen: _Seen | None = None

    def follow(self, *, anyway: bool) -> None:
        """Let the layer prepare again if a parameter changed, or ``anyway``."""
        if anyway:
            self._parts = [*self.layer.modules()]
        given = None
        if not any(_is_intercepted(part) for part in self._parts):
            given = self.layer.prepared_from()
        seen = None if given is None else _look_at(given)
        if seen is None:
            self.made = None
        elif self.made is None or anyway or self._seen is None or seen.marks != self._seen.marks:
            # plain tensors, wherever this is called: one of inference mode cannot be changed later
            with torch.inference_mode(False), torch.no_grad():
                self.made = _updated(self.made, self.layer.prepare())
        self._seen = seen


def _updated(old: Any, new: Any) -> Any:
    """Return a named tuple of tensors with the values of ``new``, in the memory of ``old``."""
    values = []
    for place, value in zip(old or [None] * len(new), new, strict=True):
        if value is None:
            values.append(None)
        elif place is not None and _fits(place, value):
            values.append(place.copy_(value))
        else:
            # memory of its own: what is kept changes when all of it does
            values.append(value.clone())
    if old is not None and all(a is b for a, b in zip(old, values, strict=True)):
        return old
    return type(new)(*values)


def _fits(old: Tensor, new: Tensor) -> bool:
    """Say whether the values of ``new`` can be copied into ``old``."""
    return old.dtype == new.dtype and old.shape == new.shape and old.device == new.device


def _is_intercepted(layer: nn.Module) -> bool:
    """Say whether somebody must see each call of a layer as a whole."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__)


# exactly these classes: another one may compute something else
_PARTS = frozenset((CenterHead, nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU))


def _look(head: nn.Module) -> _Seen | None:
    """Look at a head; None where a folded one must not stand for it.

    Written out, because it is asked at every frame.
    """
    parameters_and_buffers: list[Tensor | None] = []
    waiting: list[nn.Module] = [head]
    while waiting:
        part = waiting.pop()
        if type(part) not in _PARTS or part.training or _is_intercepted(part):
            return None
        waiting += [child for child in part._modules.values() if child is not None]
        parameters_and_buffers += part._parameters.values()
        parameters_and_buffers += part._buffers.values()
    if any(tensor is None for tensor in parameters_and_buffers):
        return None
    return _look_at(parameters_and_buffers)


def _look_at(candidates: Iterable[Tensor | None]) -> _Seen | None:
    """Look at tensors; None where one does not show its changes, or lies on another device."""
    tensors: list[Tensor] = []
    marks: list[int] = []
    for tensor in candidates:
        if tensor is None:
            continue
        # a tensor of inference mode has no version
        if not (tensor.is_cpu or tensor.is_cuda) or tensor.is_inference():
            return None
        tensors.append(tensor)
        marks += (id(tensor), tensor.untyped_storage()._cdata, tensor._version)
    return _Seen(tensors, marks)


def _same_things(some: dict[Any, Any], others: dict[Any, Any]) -> bool:
    """Say whether two dictionaries hold the very same things in the same order."""
    if list(some) != list(others):
        return False
    return all(some[name] is other for name, other in others.items())


def _folded(head: CenterHead) -> dict[str, Tensor]:
    """Return the weights and biases of a head without its norms."""
    tensors = {}
    first = [_without_norm(head.get_submodule(f"conv1_{branch}")) for branch in BRANCHES]
    tensors["weight1"] = _channels_last(torch.cat([weight for weight, _ in first]))
    tensors["bias1"] = torch.cat([bias for _, bias in first])
    for branch in BRANCHES:
        for depth in (2, 3, 4):
            weight, bias = _without_norm(head.get_submodule(f"conv{depth}_{branch}"))
            tensors[f"weight{depth}_{branch}"] = _channels_last(weight)
            tensors[f"bias{depth}_{branch}"] = bias
    return tensors


def _without_norm(block: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution with the BatchNorm behind it."""
    convolution = block.get_submodule("0")
    norm = block.get_submodule("1")
    given = convolution.get_parameter("weight")
    # in float64, so that folding rounds once
    variance = norm.get_buffer("running_var").double() + cast(nn.BatchNorm2d, norm).eps
    scale = norm.get_parameter("weight").double() / variance.sqrt()
    weight = given.double() * scale[:, None, None, None]
    centred = convolution.get_parameter("bias").double() - norm.get_buffer("running_mean").double()
    bias = centred * scale + norm.get_parameter("bias").double()
    return weight.to(given.dtype), bias.to(given.dtype)


def _channels_last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)
