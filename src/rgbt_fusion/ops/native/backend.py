"""The native CPU backend: hands pointers and strides to kernels that know no Python and no torch.

The kernels are in ``cpu.c`` and the headers beside it.
"""

import ctypes
import functools
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rgbt_fusion.ops.inputs import ConvGradients, ConvInputs, ScanGradients, ScanInputs, ScanResults

LEVEL_VARIABLE = "RGBT_FUSION_CPU_LEVEL"
"""The environment variable that holds the kernels to an instruction set: ``baseline``, ``avx2`` or
``avx512``."""

_LIBRARY_NAMES = {"darwin": "librgbt_fusion_cpu.dylib", "win32": "rgbt_fusion_cpu.dll"}
LIBRARY_PATH = Path(__file__).with_name(_LIBRARY_NAMES.get(sys.platform, "librgbt_fusion_cpu.so"))

_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_NOTHING = (0, 0, 0, 0, 0, 0)

_MOST_TOKENS = 2**31 - 65
"""The kernels count rows in 32 bits, and look one tile of 64 rows ahead."""


@dataclass
class _Library:
    """The loaded kernels, the instruction set in use (narrowest first) and how they get their
    threads."""

    functions: ctypes.CDLL
    levels: tuple[str, ...]
    level: int
    parallel_for: int


def _parallel_for() -> int:
    """Return the address of libtorch's thread pool (exported from torch 2.10 on), or 0."""
    name = "libtorch_cpu" + LIBRARY_PATH.suffix
    path = Path(torch.__file__).with_name("lib") / name
    try:
        function = ctypes.CDLL(str(path)).torch_parallel_for
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@functools.cache
def _library() -> _Library | str:
    """Return the library, or one sentence that says why there is none."""
    if not LIBRARY_PATH.exists():
        return (
            "rgbt_fusion was installed without its compiled CPU kernels; "
            "with a C compiler on the PATH, "
            "pip install --force-reinstall --no-deps --no-cache-dir --no-binary rgbt-fusion "
            "rgbt-fusion builds them"
        )
    try:
        functions = ctypes.CDLL(str(LIBRARY_PATH))
    except OSError as error:
        return f"the compiled CPU kernels cannot be loaded: {error}"
    functions.rgbt_fusion_level.restype = ctypes.c_char_p
    functions.rgbt_fusion_level.argtypes = [ctypes.c_int64]
    for name in ("scan_forward", "scan_backward", "conv_forward", "conv_backward"):
        getattr(functions, f"rgbt_fusion_{name}").argtypes = [ctypes.c_char_p]
    names = [functions.rgbt_fusion_level(i) for i in range(3)]
    levels = tuple(name.decode() for name in names if name)
    wanted = os.environ.get(LEVEL_VARIABLE, levels[-1])
    if wanted not in levels:
        return (
            f"{LEVEL_VARIABLE} must be one of {', '.join(levels)} on this processor, got {wanted!r}"
        )
    return _Library(functions, levels, levels.index(wanted), _parallel_for())


def why_missing() -> str:
    """Return one sentence that says why there are no compiled kernels and how to get them; empty
    where they are."""
    library = _library()
    return library if isinstance(library, str) else ""


def settings() -> tuple[int, int, int] | None:
    """Return what decides, beside its arguments, how a call runs; None where there are no kernels.

    The instruction set, the way to threads, and their number.
    """
    library = _library()
    if isinstance(library, str):
        return None
    return library.level, library.parallel_for, torch.get_num_threads()


def _why_not(x: Tensor) -> list[str]:
    missing = why_missing()
    reasons = [missing] if missing else []
    if x.dtype not in _DTYPES:
        reasons.append(f"computes in float32, bfloat16 or float16, the inputs are {x.dtype}")
    if not x.is_cpu:
        reasons.append(f"runs on the CPU, the inputs are on {x.device}")
    if x.shape[2] > _MOST_TOKENS:
        reasons.append(f"takes at most {_MOST_TOKENS} tokens, the inputs have {x.shape[2]}")
    return reasons


def scan_why_not(inputs: ScanInputs) -> list[str]:
    """Say why the compiled scan cannot run, if so."""
    return _why_not(inputs.u)


def conv_why_not(inputs: ConvInputs) -> list[str]:
    """Say why the compiled convolution cannot run, if so."""
    return _why_not(inputs.x)


# What follows packs the structs of cpu.h, field by field in their order; every field is 8 bytes. A
# call costs about as much as a small scan, hence no loops over what is known, and each size is
# asked for once.


def _view(x: Tensor | None, fields: int) -> Sequence[int]:
    """Return a pointer and the strides; a leading size of 1 is shared by all directions: stride
    0."""
    if x is None:
        return _NOTHING[:fields]
    r, *others = x.stride()
    return (x.data_ptr(), r if x.shape[0] > 1 else 0, *others)


def _weights(x: Tensor | None) -> Sequence[int]:
    if x is None:
        return (0, 0)
    return (x.data_ptr(), x.stride(0) if x.shape[0] > 1 else 0)


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _sequence(library: _Library, x: Tensor, order: Tensor | None, directions: int) -> Sequence[int]:
    _, batch, length, channels = x.shape
    head = (library.level, torch.get_num_threads(), library.parallel_for)
    sizes = (directions, batch, length, channels, _DTYPES[x.dtype])
    if order is None:
        return (*head, *sizes, 0, 0, 0, 0)
    order_r, order_b, _ = (
        0 if size == 1 else stride for size, stride in zip(order.shape, order.stride(), strict=True)
    )
    return (*head, *sizes, order.data_ptr(), order_r, order_b, order.shape[2])


def _scan(library: _Library, inputs: ScanInputs, directions: int) -> list[int]:
    """Pack the fields that both passes of the scan read."""
    u, delta, A, B, C, readout, D, z, delta_bias, order, start, delta_softplus, _ = inputs
    groups, states = B.shape[3:]
    return [
        *_sequence(library, u, order, directions),
        *(groups, states, int(delta_softplus)),
        *_view(u, 5),
        *_view(delta, 5),
        *_view(z, 5),
        *_view(B, 6),
        *_view(C, 6),
        *_weights(A),
        *_weights(readout),
        *_weights(D),
        *_weights(delta_bias),
        *_weights(start),
    ]


def pack(fields: Sequence[int]) -> bytes:
    """Lay the fields of a struct out in memory."""
    return struct.pack(f"{len(fields)}q", *fields)


def call(name: str, packed: bytes) -> None:
    """Call a kernel with its packed struct."""
    if getattr(loaded_library().functions, f"rgbt_fusion_{name}")(packed):
        raise MemoryError(f"no memory is left for the scratch space of {name}")


def loaded_library() -> _Library:
    """Return the kernels, or raise what says why there are none."""
    library = _library()
    if isinstance(library, str):
        raise RuntimeError(library)
    return library


_SCAN_BACKWARD_FIELDS = 4 * 5 + 1 + 2 * 6 + 5 * 2
_CONV_BACKWARD_FIELDS = 2 * 5 + 2 * 2


def scan_forward_fields(inputs: ScanInputs, results: ScanResults) -> list[int]:
    """Pack what the forward pass of the scan is given."""
    checkpoints = results.checkpoints.data_ptr() if results.checkpoints.shape[2] else 0
    fields = _scan(loaded_library(), inputs, results.last_state.shape[0])
    fields += (*_view(results.out, 5), results.last_state.data_ptr(), checkpoints)
    return fields + [0] * _SCAN_BACKWARD_FIELDS


def scan_forward(inputs: ScanInputs, results: ScanResults) -> None:
    """Run the recurrence over pieces of the channels, in parallel."""
    call("scan_forward", pack(scan_forward_fields(inputs, results)))


def scan_backward_fields(
    inputs: ScanInputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_last_state: Tensor | None,
    grads: ScanGradients,
) -> list[int]:
    """Pack what the backward pass of the scan is given."""
    return [
        *_scan(loaded_library(), inputs, checkpoints.shape[0]),
        *_view(None, 5),
        0,
        checkpoints.data_ptr(),
        *_view(grad_out, 5),
        *_view(grads.u, 5),
        *_view(grads.delta, 5),
        *_view(grads.z, 5),
        _address(grad_last_state),
        *_view(grads.B, 6),
        *_view(grads.C, 6),
        *_weights(grads.A),
        *_weights(grads.readout),
        *_weights(grads.D),
        *_weights(grads.delta_bias),
        *_weights(grads.initial_state),
    ]


def scan_backward(
    inputs: ScanInputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_last_state: Tensor | None,
    grads: ScanGradients,
) -> None:
    """Run each block of steps again from its checkpoint, then the adjoint recurrence over it."""
    fields = scan_backward_fields(inputs, checkpoints, grad_out, grad_last_state, grads)
    call("scan_backward", pack(fields))


def _conv(inputs: ConvInputs, directions: int) -> list[int]:
    """Pack the fields that both passes of the convolution read."""
    x, weight, bias, order, silu = inputs
    return [
        *_sequence(loaded_library(), x, order, directions),
        weight.shape[2],
        int(silu),
        *_view(x, 5),
        *_weights(weight),
        *_weights(bias),
    ]


def conv_forward_fields(inputs: ConvInputs, out: Tensor) -> list[int]:
    """Pack what the forward pass of the convolution is given."""
    fields = [*_conv(inputs, out.shape[0]), *_view(out, 5)]
    return fields + [0] * _CONV_BACKWARD_FIELDS


def conv_forward(inputs: ConvInputs, out: Tensor) -> None:
    """Correlate each channel with its taps over tiles of steps, in parallel."""
    call("conv_forward", pack(conv_forward_fields(inputs, out)))


def conv_backward_fields(inputs: ConvInputs, grad_out: Tensor, grads: ConvGradients) -> list[int]:
    """Pack what the backward pass of the convolution is given."""
    return [
        *_conv(inputs, grad_out.shape[0]),
        *_view(None, 5),
        *_view(grad_out, 5),
        *_view(grads.x, 5),
        *_weights(grads.weight),
        *_weights(grads.bias),
    ]


def conv_backward(inputs: ConvInputs, grad_out: Tensor, grads: ConvGradients) -> None:
    """Compute the pre-activation again and correlate its gradient with the taps turned round."""
    call("conv_backward", pack(conv_backward_fields(inputs, grad_out, grads)))
