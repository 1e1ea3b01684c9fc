"""The gradients of the selective scan as a function, for autograd functions of others."""

from typing import NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.ops.backends import BackendName
from rgbt_fusion.ops.inputs import ScanGradients
from rgbt_fusion.ops.prepared_scan import ScanCallTensors
from rgbt_fusion.ops.scan_op import scan_backward_op, scan_op
from rgbt_fusion.ops.selective_scan import mamba_ssm_form
from rgbt_fusion.shapes import check_same_shape, check_shape

__all__ = ["SelectiveScanGradients", "selective_scan_gradients"]


class SelectiveScanGradients(NamedTuple):
    """The gradients of :func:`selective_scan_gradients`, each shaped and typed as its argument."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None


def selective_scan_gradients(
    grad_out: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    grad_last_state: Tensor | None = None,
    *,
    backend: BackendName = "auto",
) -> SelectiveScanGradients:
    r"""Return the gradients of :func:`~rgbt_fusion.selective_scan` without autograd.

    For code that has a backward pass of its own, such as the ``autograd.Function`` of mamba-ssm and
    its forks. Also works inside a custom op, where autograd does not. The states are computed once
    more, as mamba-ssm's own backward pass does.

    Args:
        grad_out: the gradient of the result.
        u: as in the forward pass, like all below.
        delta: the step sizes.
        A: the decay rates.
        B: how the input enters the state.
        C: how the state is read.
        D: the skip connection.
        z: the gate.
        delta_bias: added to ``delta``.
        delta_softplus: whether ``delta + delta_bias`` passed through a softplus.
        grad_last_state: the gradient of the last state, where it was returned.
        backend: ``"auto"``, or the name of the backend that must run.

    Shape:
        - grad_out: ``(B, D, L)`` in the dtype of ``u``
        - u, delta, A, B, C, D, z, delta_bias: as in :func:`~rgbt_fusion.selective_scan`
        - grad_last_state: ``(B, D, N)`` in the dtype of the state

    Raises:
        ShapeError: an argument has another rank or size than in the forward pass.
        TypeError: an argument has another dtype than in the forward pass.
        ValueError: an argument is on another device than ``u``; ``backend`` is unknown.
        BackendUnavailableError: ``backend`` cannot run here.

    Example:
        One token: ``out = delta * B * u * C``.

        >>> import torch
        >>> from rgbt_fusion.ops.scan_gradients import selective_scan_gradients
        >>> u, delta, B, C = (torch.full((1, 1, 1), value) for value in (2.0, 0.5, 3.0, 4.0))
        >>> ones, A = torch.ones_like(u), -torch.ones(1, 1)
        >>> gradients = selective_scan_gradients(ones, u, delta, A, B, C)
        >>> gradients.u.item(), gradients.C.item()
        (6.0, 3.0)
    """
    tensors = ScanCallTensors(
        u=u,
        delta=delta,
        A=A,
        B=B,
        C=C,
        readout=None,
        D=D,
        z=z,
        delta_bias=delta_bias,
        order=None,
        initial_state=None,
    )
    arguments = mamba_ssm_form(tensors, delta_softplus).arguments
    check_same_shape(grad_out, u, name="grad_out", like_name="u")
    with torch.no_grad():
        _, last_state, checkpoints = scan_op(*arguments, False, True, backend)
        grad_state = None
        if grad_last_state is not None:
            check_shape(grad_last_state, "B D N", name="grad_last_state", B=u.shape[0])
            grad_state = grad_last_state[None]
            if B.dim() == 2:
                # a constant B was taken out of the scan: the public last state is B times the op's
                grad_state = grad_state * B.to(last_state.dtype)
        found = scan_backward_op(grad_out[None], grad_state, checkpoints, *arguments, backend)
        gradients = ScanGradients(*found)
        d_B = _coefficient_gradient(B, gradients.B, gradients.readout, other=C)
        if grad_last_state is not None and B.dim() == 2:
            d_B = d_B + (grad_last_state * last_state[0]).sum(0).to(d_B.dtype)
        return SelectiveScanGradients(
            u=gradients.u[0],
            delta=gradients.delta[0],
            A=gradients.A[0].to(A.dtype),
            B=d_B,
            C=_coefficient_gradient(C, gradients.C, gradients.readout, other=B),
            D=_parameter_gradient(D, gradients.D),
            z=None if z is None or gradients.z is None else gradients.z[0],
            delta_bias=_parameter_gradient(delta_bias, gradients.delta_bias),
        )


def _parameter_gradient(x: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    return None if x is None or gradient is None else gradient[0].to(x.dtype)


def _coefficient_gradient(
    x: Tensor, varying: Tensor, readout: Tensor | None, *, other: Tensor
) -> Tensor:
    """Return the gradient of B or C, in the form in which it was given."""
    if x.dim() == 3:
        return varying[0].sum(1)
    if x.dim() == 4:
        return varying[0].sum_to_size(x.shape)
    if readout is None:
        raise RuntimeError("a constant coefficient has a readout")
    gradient = readout[0]
    if other.dim() == 2:
        # both are constant, and the readout is their product
        gradient = gradient * other.to(gradient.dtype)
    return gradient.to(x.dtype)
