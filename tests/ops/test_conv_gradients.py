"""The gradients of the convolution without autograd, against autograd's."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rgbt_fusion import ShapeError, causal_conv1d
from rgbt_fusion.ops.conv_gradients import causal_conv1d_gradients

PACKED = torch.tensor([[0, 0, 1, 1, 1, -1], [4, 5, 5, 5, 5, 5]])


def arguments_of(length: int = 6) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()

    return {"x": normal(2, 3, length), "weight": normal(3, 4), "bias": normal(3)}


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("without", [(), ("bias",)])
@pytest.mark.parametrize("length", [1, 2, 6])
@pytest.mark.parametrize("kind", ["plain", "packed", "states", "final states", "both states"])
def test_agree_with_autograd(
    kind: str, length: int, without: tuple[str, ...], activation: str | None
) -> None:
    given = arguments_of(length)
    for name in without:
        del given[name]
    random = torch.Generator().manual_seed(1)
    if kind in ("states", "both states"):
        states = torch.randn(2, 3, 3, generator=random, dtype=torch.float64)
        given["initial_states"] = states.requires_grad_()
    options: dict[str, Any] = {"activation": activation}
    if kind == "packed":
        options["seq_idx"] = PACKED[:, :length]
    final = kind in ("final states", "both states")
    found = causal_conv1d(**given, **options, return_final_states=final)
    results = [*found] if final else [found]
    gradients = [torch.randn_like(x) for x in results]
    want = torch.autograd.grad(results, [*given.values()], gradients)
    detached = {name: x.detach() for name, x in given.items()}
    got = causal_conv1d_gradients(
        gradients[0], **detached, **options, grad_final_states=gradients[1] if final else None
    )
    for name, gradient in zip(given, want, strict=True):
        torch.testing.assert_close(getattr(got, name), gradient)
    absent = {"bias", "initial_states"} - set(given)
    assert all(getattr(got, name) is None for name in absent)


def test_bad_arguments_are_named() -> None:
    x, weight = torch.zeros(2, 3, 6), torch.zeros(3, 4)
    with pytest.raises(ShapeError, match=r"grad_out must have the shape of x \(2, 3, 6\)"):
        causal_conv1d_gradients(x[:, :, 1:], x, weight)
    with pytest.raises(ShapeError, match=r"weight must have shape \(D, W\) with D = 3"):
        causal_conv1d_gradients(x, x, torch.zeros(2, 4))
    with pytest.raises(ShapeError, match=r"grad_final_states must have shape \(B, D, 3\)"):
        causal_conv1d_gradients(x, x, weight, grad_final_states=torch.zeros(2, 3, 2))
    with pytest.raises(ValueError, match="activation must be one of"):
        causal_conv1d_gradients(x, x, weight, activation="relu")  # pyright: ignore
