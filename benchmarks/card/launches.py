"""How many kernels a frame takes on a card, and whether the host waits, counted without a card.

Networks run on fake tensors of ``cuda``, which have shapes but no values. Every operation that
makes new values counts as one kernel; views and fresh memory count as none. The Triton backend says
itself how many kernels it launches. Reading a value on the host, or mixing devices, is an error for
fake tensors.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.card.fake import MULTIPROCESSORS, allow_cuda_fakes
from rgbt_fusion import ImagePair
from rgbt_fusion.models.inference import inference_form
from rgbt_fusion.models.presets import build_preset
from rgbt_fusion.ops.scan_op import ScanArguments
from rgbt_fusion.ops.triton import backend as triton_backend

__all__ = ["Launches", "count_frame", "count_training_step"]

KERNELS = {"rgbt_fusion.mutual_prompts.default": 4}
"""Kernels of operations that launch more than one."""

ALLOCATIONS = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")


class Launches(NamedTuple):
    """What a frame of a network asks of a card."""

    kernels: Counter[str]
    """Kernels by operation."""
    copies_from_host: int
    """Tensors made on the host and sent in the midst of a frame: a graph cannot hold them."""

    @property
    def total(self) -> int:
        return self.kernels.total()

    @property
    def casts(self) -> int:
        return sum(count for name, count in self.kernels.items() if "to." in name or "_to_" in name)


class _Counter(TorchDispatchMode):
    """Counts what would be launched."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device
        self.kernels: Counter[str] = Counter()
        self.copies_from_host = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = _attended(args) if _runs_flash(func, args) else func(*args, **kwargs)
        name = str(func).removeprefix("aten.")
        given = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
        on_device = [x for x in made if x.device.type == self._device]
        from_host = any(x.device.type == "cpu" for x in given)
        if self._device != "cpu" and from_host and on_device:
            self.copies_from_host += 1
        if name.partition(".")[0] in ALLOCATIONS or not made:
            return result
        memory = {x.untyped_storage()._cdata for x in given}
        is_view = all(x.untyped_storage()._cdata in memory for x in made)
        writes = func._schema.is_mutable
        if on_device and (writes or not is_view):
            self.kernels[name] += _launches_of(name, args)
        return result


def _runs_flash(func: Any, args: tuple[Any, ...]) -> bool:
    """Say whether a card would take its kernel for attention in half precision."""
    if func is not torch.ops.aten.scaled_dot_product_attention.default:
        return False
    query = args[0]
    return query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)


def _attended(args: tuple[Any, ...]) -> Tensor:
    """Return what that kernel gives: it lies in memory as the queries do.

    Fake tensors would go the way of a PyTorch without CUDA, whose result lies otherwise.
    """
    query, key, value = args[:3]
    return torch.ops.aten._scaled_dot_product_flash_attention.default(query, key, value)[0]


def _launches_of(name: str, args: tuple[Any, ...]) -> int:
    """Return how many kernels an operation launches."""
    if name == "rgbt_fusion.selective_scan.default":
        given = args[: len(ScanArguments._fields)]
        return triton_backend.scan_launches(ScanArguments(*given).as_inputs())
    return KERNELS.get(name, 1)


def _network_of_fakes(preset: str, dtype: torch.dtype, device: str) -> Any:
    """Return a network whose parameters are fake tensors, and their mode."""
    allow_cuda_fakes()
    with torch.device("meta"):
        network: Any = build_preset(preset).to(dtype)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        network._apply(lambda x: torch.empty(x.shape, dtype=x.dtype, device=device))
    return network, mode


def _images(network: Any, dtype: torch.dtype, device: str, batch: int = 1) -> list[ImagePair]:
    sizes = (network.template_size, network.search_size)
    return [
        ImagePair(*(torch.empty(batch, 3, size, size, device=device, dtype=dtype) for _ in "rt"))
        for size in sizes
    ]


def count_frame(preset: str, dtype: torch.dtype = torch.float16) -> Launches:
    """Count one frame of a preset, its template embedded and its memory filled.

    Raises:
        RuntimeError: the network reads a value on the host, or mixes devices.
    """
    network, mode = _network_of_fakes(preset, dtype, "cuda")
    form = inference_form(network.eval())
    with _imagined(), mode, torch.inference_mode(), _no_host_reads(preset):
        if form is not None:
            network = form.current()
        template, search = _images(network, dtype, "cuda")
        tokens = network.embed_template(template)
        # the first frame fills the memory, and what is prepared once
        state = network(tokens, search).state
        with _Counter("cuda") as counted:
            network(tokens, search, state)
    return Launches(counted.kernels, counted.copies_from_host)


def count_training_step(preset: str, dtype: torch.dtype = torch.float32) -> Launches:
    """Count one forward and backward pass of a preset in training.

    A PyTorch without CUDA has no thread for the backward pass of ``cuda``: there the tensors are
    those of a CPU. Values that are read on the host are found all the same.

    Raises:
        RuntimeError: the network reads a value on the host, or mixes devices.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, mode = _network_of_fakes(preset, dtype, device)
    network.train()
    with _imagined(), mode, _Counter(device) as counted, _no_host_reads(preset):
        template, search = _images(network, dtype, device, batch=2)
        answer = network(template, search)
        loss = answer.score_logits.sum() + answer.size_map.sum() + answer.offset_map.sum()
        loss.backward()
    return Launches(counted.kernels, counted.copies_from_host)


@contextmanager
def _no_host_reads(preset: str) -> Iterator[None]:
    """Say in one sentence which network reads a value on the host."""
    try:
        yield
    except DataDependentOutputException as error:
        raise RuntimeError(f"{preset} reads a value on the host: {error}") from error


def _imagined() -> Any:
    """Let the backend plan for the card that is imitated."""
    return mock.patch.multiple(
        triton_backend,
        _multiprocessors=lambda device: MULTIPROCESSORS,
        # nothing can be launched on fake tensors, and nothing need be
        why_not_installed=lambda: None,
        _launch_error=lambda device: None,
    )
