"""All dispatch code: what a backend is, which one runs, and why the others do not."""

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch

from rgbt_fusion.checks import check_choice
from rgbt_fusion.ops.inputs import ConvInputs, ScanInputs
from rgbt_fusion.shapes import BackendUnavailableError

__all__ = ["BACKENDS", "BACKEND_VARIABLE", "Backend", "backend_report", "choose", "load_mamba_ssm"]

BACKEND_VARIABLE = "RGBT_FUSION_BACKEND"
"""The environment variable that takes the place of ``backend="auto"``."""


@dataclass(frozen=True)
class Backend:
    """One way to compute an op: its name, its devices (none named: all), and how to import it."""

    name: str
    devices: tuple[str, ...]
    load: Callable[[], ModuleType]

    def why_not(self, op: str, inputs: ScanInputs | ConvInputs) -> list[str]:
        """Return the reasons why this backend cannot run ``op`` on ``inputs``; none if it can.

        ``op`` is ``"scan"`` or ``"conv"``.
        """
        device = inputs[0].device.type
        if self.devices and device not in self.devices:
            return [f"runs on {' and '.join(self.devices)}, the inputs are on {device}"]
        try:
            module = self.load()
        except (ImportError, OSError, RuntimeError) as error:
            return [f"cannot be imported: {error}"]
        return getattr(module, f"{op}_why_not")(inputs)


def load_mamba_ssm() -> ModuleType:
    from rgbt_fusion.ops import mamba_ssm

    return mamba_ssm


def _load_triton() -> ModuleType:
    from rgbt_fusion.ops.triton import backend

    return backend


def _load_native() -> ModuleType:
    from rgbt_fusion.ops.native import backend

    return backend


def _load_vectorised() -> ModuleType:
    from rgbt_fusion.ops import vectorised

    return vectorised


def _load_reference() -> ModuleType:
    from rgbt_fusion.ops import reference

    return reference


# Triton's interpreter runs kernels on CPU tensors; it is how the kernels are tested without a card.
_TRITON_DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)

BACKENDS = (
    Backend("mamba-ssm", ("cuda",), load_mamba_ssm),
    Backend("triton", _TRITON_DEVICES, _load_triton),
    Backend("native", ("cpu",), _load_native),
    Backend("vectorised", (), _load_vectorised),
    Backend("reference", (), _load_reference),
)
"""Every backend, preferred first."""

BACKENDS_INSIDE_OPS = tuple(backend for backend in BACKENDS if backend.name != "mamba-ssm")
"""The backends that compute inside the registered ops.

mamba-ssm has ops of its own with their own autograd: the public functions call them in place of
ours.
"""

NAMES = ("auto", *(backend.name for backend in BACKENDS))

BackendName = Literal["auto", "mamba-ssm", "triton", "native", "vectorised", "reference"]
"""What the argument ``backend`` of an op or a layer may be."""


def choose(
    op: str, requested: str, inputs: ScanInputs | ConvInputs, backends: Sequence[Backend] = BACKENDS
) -> Backend:
    """Return the first of ``backends`` without an objection, or the one named if it has none.

    Raises:
        ValueError: ``requested`` (or the environment variable) names no backend.
        BackendUnavailableError: the named backend cannot run; the message gives every backend's
            reasons.
    """
    check_choice(requested, NAMES, name="backend")
    if requested == "auto":
        requested = os.environ.get(BACKEND_VARIABLE, "auto")
        check_choice(requested, NAMES, name=f"the environment variable {BACKEND_VARIABLE}")
    candidates = [backend for backend in backends if requested in ("auto", backend.name)]
    for backend in candidates:
        if not backend.why_not(op, inputs):
            if requested == "auto" and backend.name == "vectorised":
                _warn_if_slow(op, inputs)
            return backend
    asked = f"backend {requested!r}" if requested != "auto" else "no backend"
    lines = [f"{asked} cannot run this {op}:"]
    for backend in BACKENDS:
        reasons = "; ".join(backend.why_not(op, inputs))
        lines.append(f"  {backend.name}: {reasons or 'can run'}")
    raise BackendUnavailableError("\n".join(lines))


def _warn_if_slow(op: str, inputs: ScanInputs | ConvInputs) -> None:
    """Say why the kernels of the device do not run, where one would expect that they do."""
    device = inputs[0].device.type
    if device == "cpu" and (reason := _load_native().why_missing()):
        _warn_once(f"{reason}; running on pure PyTorch, several times slower")
    if device == "cuda":
        (triton,) = (backend for backend in BACKENDS if backend.name == "triton")
        reasons = "; ".join(triton.why_not(op, inputs))
        _warn_once(
            f"the Triton kernels do not run: {reasons}; running on pure PyTorch, "
            "which launches hundreds to thousands of kernels per call"
        )


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=6)


def backend_report(
    device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, dict[str, Any]]:
    """Say for each op which backend would run on a device, and why the others would not.

    Args:
        device: where the inputs would be.
        dtype: their dtype.

    Returns:
        For each op, ``"chosen"`` and ``"why_not"``: a dict from the name of every backend,
        preferred first, to its reasons. An empty list means that it can run.

    Example:
        >>> from rgbt_fusion import backend_report
        >>> backend_report()["selective_scan"]["why_not"]["reference"]
        []
    """
    x = torch.zeros(1, 1, 64, 8, device=device, dtype=dtype)
    parameter = torch.zeros(
        1, 8, 4, device=device, dtype=torch.float64 if dtype == torch.float64 else torch.float32
    )
    coefficients = x[..., None, :4]
    probes = {
        "selective_scan": (
            "scan",
            ScanInputs(
                u=x,
                delta=x,
                A=parameter,
                B=coefficients,
                C=coefficients,
                readout=None,
                D=None,
                z=None,
                delta_bias=None,
                order=None,
                initial_state=None,
                delta_softplus=True,
                merge=False,
            ),
        ),
        "causal_conv1d": ("conv", ConvInputs(x, parameter, None, None, silu=True)),
    }
    report = {}
    for name, (op, inputs) in probes.items():
        report[name] = {
            "chosen": choose(op, "auto", inputs, BACKENDS).name,
            "why_not": {backend.name: backend.why_not(op, inputs) for backend in BACKENDS},
        }
    return report
