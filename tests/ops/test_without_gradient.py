"""Where the kernels for inference may run: each condition alone, and who asks for them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rgbt_fusion.ops import map_op, prompt_op, stream_op
from rgbt_fusion.ops import triton as kernels
from rgbt_fusion.ops.map_op import can_fuse_maps
from rgbt_fusion.ops.prompt_op import can_fuse_prompts
from rgbt_fusion.ops.stream_op import can_fuse_streams
from rgbt_fusion.ops.without_gradient import may_fuse

X = torch.ones(1, 4, 8)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernels run on a CPU, in Triton's interpreter."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def test_a_cpu_is_left_alone() -> None:
    assert not may_fuse(X, ())


@pytest.mark.usefixtures("interpreted")
def test_a_gradient_that_somebody_wants_is_in_the_way() -> None:
    wanted = X.clone().requires_grad_()
    assert may_fuse(X, (X,))
    assert not may_fuse(wanted, ())
    assert not may_fuse(X, (X, wanted))
    with torch.no_grad():
        assert may_fuse(wanted, (wanted,))


@pytest.mark.usefixtures("interpreted")
def test_autocast_nothing_and_other_devices_are_in_the_way() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert not may_fuse(X, ())
    assert not may_fuse(torch.ones(0, 4, 8), ())
    assert not may_fuse(X.to("meta"), ())


@pytest.mark.usefixtures("interpreted")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiler_and_a_tracer_are_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []

    def traced(x: torch.Tensor) -> torch.Tensor:
        found.append(may_fuse(x, ()))
        return x + 1

    torch.jit.trace(traced, (X,), check_trace=False)
    assert found == [False]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not may_fuse(X, ())


QUESTIONS: dict[str, Any] = {
    "streams": (stream_op, lambda: can_fuse_streams(X, (X,))),
    "maps": (map_op, lambda: can_fuse_maps(X, X, 1)),
    "prompts": (prompt_op, lambda: can_fuse_prompts([X, X], [X])),
}


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_kernel_runs_where_it_may_and_has_no_objection(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, can_fuse = QUESTIONS[kind]
    objections: list[str] = []
    kernel = SimpleNamespace(**{f"{kind}_why_not": lambda *_: objections})
    monkeypatch.setattr(kernels, kind, kernel, raising=False)
    assert not can_fuse()
    monkeypatch.setattr(module, "may_fuse", lambda *_: True)
    assert can_fuse()
    objections.append("takes tokens of at most 4 channels")
    assert not can_fuse()
