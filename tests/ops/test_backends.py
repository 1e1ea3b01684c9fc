"""Which backend runs, who may say so, and what is said when none can."""

import functools
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ops.agreement import ScanCase, make_scan_inputs, run_scan
from ops.public_arguments import mamba_ssm_arguments
from rgbt_fusion import BackendUnavailableError, backend_report, causal_conv1d, selective_scan
from rgbt_fusion.ops import backends, prepared, reference, vectorised
from rgbt_fusion.ops.backends import BACKEND_VARIABLE, BACKENDS, choose
from rgbt_fusion.ops.inputs import ConvInputs

NAMES = ["mamba-ssm", "triton", "native", "vectorised", "reference"]


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)


def convolve(backend: str = "auto") -> Tensor:
    return causal_conv1d(torch.randn(1, 2, 9), torch.randn(2, 4), backend=backend)


def scan(backend: str = "auto") -> Tensor | tuple[Tensor, Tensor]:
    return selective_scan(**mamba_ssm_arguments(), backend=backend)


OPS = pytest.mark.parametrize(
    ("op", "run"), [("scan", scan), ("conv", convolve)], ids=["scan", "convolution"]
)


def calls_of(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[str]:
    """Note the calls of a backend's function, which still runs."""
    calls, original = [], getattr(module, name)

    @functools.wraps(original)
    def noting(*arguments: Any) -> Any:
        calls.append(name)
        return original(*arguments)

    monkeypatch.setattr(module, name, noting)
    return calls


@OPS
@pytest.mark.parametrize("module", [vectorised, reference])
def test_the_backend_that_is_named_runs(
    module: ModuleType, op: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_of(monkeypatch, module, f"{op}_forward")
    run(backend=module.__name__.rpartition(".")[2])
    assert len(calls) == 1


@OPS
def test_the_environment_takes_the_place_of_auto_and_of_nothing_else(
    op: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "reference")
    calls = calls_of(monkeypatch, reference, f"{op}_forward")
    run(backend="vectorised")
    assert not calls
    run()
    assert len(calls) == 1


@OPS
def test_an_unknown_backend_is_refused(
    op: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ValueError, match=r"backend must be one of 'auto', 'mamba-ssm', .*, got 'cuda'"
    ):
        run(backend="cuda")
    monkeypatch.setenv(BACKEND_VARIABLE, "fastest")
    with pytest.raises(
        ValueError,
        match=f"environment variable {BACKEND_VARIABLE} must be one of .*, got 'fastest'",
    ):
        run()


@OPS
def test_a_named_backend_that_cannot_run_is_an_error_with_every_reason(
    op: str, run: Callable[..., Any]
) -> None:
    with pytest.raises(
        BackendUnavailableError, match=f"backend 'mamba-ssm' cannot run this {op}"
    ) as error:
        run(backend="mamba-ssm")
    assert "mamba-ssm: runs on cuda, the inputs are on cpu" in str(error.value)
    assert all(f"  {name}: " in str(error.value) for name in NAMES)


def test_a_backend_that_does_not_import_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> ModuleType:
        raise OSError("libcudart.so.12: cannot open shared object file")

    broken = backends.Backend("native", ("cpu",), load)
    monkeypatch.setattr(backends, "BACKENDS", (broken, *BACKENDS[3:]))
    report = backend_report()
    assert report["selective_scan"]["why_not"]["native"] == [
        "cannot be imported: libcudart.so.12: cannot open shared object file"
    ]
    assert report["causal_conv1d"]["chosen"] == "vectorised"


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
def test_the_report_lists_every_backend_and_names_the_one_that_runs(dtype: torch.dtype) -> None:
    report = backend_report("cpu", dtype)
    assert list(report) == ["selective_scan", "causal_conv1d"]
    for entry in report.values():
        assert list(entry["why_not"]) == NAMES
        assert entry["chosen"] == next(
            name for name, reasons in entry["why_not"].items() if not reasons
        )
        assert not entry["why_not"]["vectorised"] and not entry["why_not"]["reference"]


@pytest.fixture
def no_native_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The compiled kernels are missing, and nobody has been told."""
    from rgbt_fusion.ops.native import backend as native

    for name in ("scan_why_not", "conv_why_not"):
        monkeypatch.setattr(native, name, lambda inputs: ["the compiled kernels are missing"])
    monkeypatch.setattr(native, "why_missing", lambda: "the compiled kernels are missing")
    backends._warn_once.cache_clear()
    prepared.forget_every_plan()
    yield
    prepared.forget_every_plan()


@pytest.mark.usefixtures("no_native_backend")
def test_the_slow_fallback_says_so_once() -> None:
    with pytest.warns(
        RuntimeWarning, match="compiled kernels are missing; running on pure PyTorch"
    ) as caught:
        scan()
        convolve()
    assert len(caught) == 1


@pytest.mark.usefixtures("no_native_backend")
def test_a_fallback_that_was_asked_for_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan(backend="vectorised")
        monkeypatch.setenv(BACKEND_VARIABLE, "vectorised")
        scan()


@pytest.fixture
def fake_card_input() -> Iterator[ConvInputs]:
    """Inputs on a card that need not exist."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.zeros(1, 1, 64, 8, device="cuda")
        weight = torch.zeros(1, 8, 4, device="cuda")
        yield ConvInputs(x, weight, None, None, silu=True)


def test_a_card_without_the_kernels_says_why_once(
    fake_card_input: ConvInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rgbt_fusion.ops.triton import backend as triton

    monkeypatch.setattr(triton, "conv_why_not", lambda inputs: ["no assembler was found"])
    backends._warn_once.cache_clear()
    message = "Triton kernels do not run: no assembler was found; running on pure PyTorch"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        for _ in range(2):
            chosen = choose("conv", "auto", fake_card_input)
            assert chosen.name == "vectorised"
    assert len(caught) == 1


class TestLaunches:
    """Test launches of Triton, counted in place of made."""

    @pytest.fixture
    def launches(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        from rgbt_fusion.ops.triton import backend as triton

        made: list[int] = []

        def launch(device: int) -> str | None:
            made.append(device)
            return "out of memory" if len(made) == 1 else None

        monkeypatch.setattr(triton, "_tested", {})
        monkeypatch.setattr(triton, "_test_launch", launch)
        monkeypatch.setattr(triton, "_may_launch", lambda x: True)
        return made

    def test_a_failure_is_remembered_for_a_while_and_a_success_for_ever(
        self, launches: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from rgbt_fusion.ops.triton import backend as triton

        now = 0.0
        monkeypatch.setattr(triton.time, "monotonic", lambda: now)
        x = torch.zeros(1, device="meta")
        assert triton._launch_error(x) == triton._launch_error(x) == "out of memory"
        assert len(launches) == 1
        now = triton.RETRY_SECONDS
        assert triton._launch_error(x) is None
        now *= 100
        assert triton._launch_error(x) is None
        assert len(launches) == 2

    @pytest.mark.parametrize("capturing", [False, True])
    def test_none_is_made_with_fake_tensors_or_while_a_graph_is_captured(
        self, capturing: bool, launches: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from rgbt_fusion.ops.triton import backend as triton

        monkeypatch.undo()
        monkeypatch.setattr(triton, "_tested", {})
        monkeypatch.setattr(triton, "_test_launch", launches.append)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
        x = torch.zeros(1, device="meta")
        if capturing:
            assert triton._launch_error(x) is None
        else:
            from torch._subclasses.fake_tensor import FakeTensorMode

            with FakeTensorMode():
                assert triton._launch_error(x) is None
        assert not launches
        assert not triton._tested
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        triton._launch_error(x)
        assert launches == [0]

    def test_the_kernel_of_real_scans_is_launched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It scans what it is given: a wrong result is told from a right one."""
        from rgbt_fusion.ops.triton import backend as triton

        ones = torch.ones
        monkeypatch.setattr(torch, "ones", lambda *size, device: ones(*size))
        monkeypatch.setattr(triton, "scan_forward", reference.scan_forward)
        assert triton._test_launch(0) is None
        monkeypatch.setattr(triton, "scan_forward", lambda inputs, results: None)
        assert triton._test_launch(0) == "a test launch of a Triton kernel gave a wrong result"


def test_an_old_triton_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from rgbt_fusion.ops.triton import backend as triton

    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.2.0"))
    triton.why_not_installed.cache_clear()
    try:
        assert triton.why_not_installed() == "needs Triton 3.3 or newer, 3.2.0 is installed"
    finally:
        triton.why_not_installed.cache_clear()


def test_on_a_device_without_kernels_pure_pytorch_runs_and_makes_all_its_tensors_there() -> None:
    # "meta" stands for any device: its tensors refuse to meet those of another one
    inputs = make_scan_inputs(ScanCase("several blocks", length=150), device="meta")
    chosen = choose("scan", "auto", inputs)
    assert chosen.name == "vectorised"
    assert all(result.device.type == "meta" for result in run_scan(vectorised, inputs).values())


def test_a_gpu_of_apple_has_pure_pytorch_alone() -> None:
    on_mps = [SimpleNamespace(device=torch.device("mps"))]
    reasons = {backend.name: backend.why_not("scan", on_mps) for backend in BACKENDS}
    assert reasons["native"] == ["runs on cpu, the inputs are on mps"]
    assert reasons["triton"][0].endswith("the inputs are on mps")
    assert not reasons["vectorised"] and not reasons["reference"]


def test_triton_takes_tensors_of_a_cpu_in_its_interpreter_alone() -> None:
    (triton,) = [one for one in BACKENDS if one.name == "triton"]
    assert triton.devices == ("cuda",)
    script = "from rgbt_fusion.ops.backends import BACKENDS; print(BACKENDS[1].devices)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TRITON_INTERPRET": "1"},
    )
    assert done.stdout.strip() == "('cuda', 'cpu')"
