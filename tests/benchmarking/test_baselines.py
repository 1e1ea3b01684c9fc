import pytest
import torch

from rgbt_fusion import MambaBlock
from rgbt_fusion.benchmarking import baselines
from rgbt_fusion.benchmarking.workloads import Workload, error_against_float64, prepare

SIZES = {"B": 2, "D": 6, "L": 37, "N": 3}


@pytest.mark.parametrize("layout", ["token", "channel"])
@pytest.mark.parametrize(
    "name", ["reference loop", "PyTorch loop", "chunked PyTorch loop", "mambapy"]
)
def test_every_scan_computes_the_same(name, layout):
    if reason := baselines.why_missing(name, "cpu"):
        pytest.skip(reason)
    error = error_against_float64(Workload("scan", name, SIZES, layout=layout, backward=True))
    assert error["out"] < 1e-6
    assert error["gradients"] < 5e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "name", ["reference loop", "PyTorch loop", "chunked PyTorch loop", "mambapy"]
)
def test_every_scan_takes_low_precision(name, dtype):
    if reason := baselines.why_missing(name, "cpu"):
        pytest.skip(reason)
    assert error_against_float64(Workload("scan", name, SIZES, dtype=dtype))["out"] < 1e-2


@pytest.mark.parametrize("layout", ["token", "channel"])
@pytest.mark.parametrize("name", ["C loop over tokens", "C loop over channels"])
def test_the_loops_in_c_compute_the_same(name, layout):
    if reason := baselines.why_missing(name, "cpu"):
        pytest.skip(reason)
    error = error_against_float64(Workload("scan", name, SIZES, layout=layout))
    assert error["out"] < 1e-6


@pytest.mark.parametrize("name", baselines.BOUNDS)
def test_a_bound_runs_and_leaves_the_inputs_alone(name):
    if reason := baselines.why_missing(name, "cpu"):
        pytest.skip(reason)
    call = prepare(Workload("scan", name, SIZES))
    first, second = call()[0].clone(), call()[0]
    assert torch.equal(first, second)


@pytest.mark.parametrize("layout", ["token", "channel"])
def test_the_usual_convolution_computes_the_same(layout):
    sizes = {"B": 2, "D": 6, "L": 9, "W": 4}
    error = error_against_float64(
        Workload("conv", "torch conv1d", sizes, layout=layout, backward=True)
    )
    assert max(error.values()) < 1e-6


def test_the_block_in_pytorch_computes_what_the_block_computes():
    torch.manual_seed(0)
    block = MambaBlock(16, d_state=4, expand=2)
    in_pytorch = baselines.MambaInPyTorch(16, d_state=4, expand=2)
    in_pytorch.load_state_dict(block.state_dict())
    tokens = torch.randn(2, 11, 16)
    torch.testing.assert_close(in_pytorch(tokens), block(tokens), rtol=1e-4, atol=1e-6)


def test_what_cannot_run_says_why():
    assert baselines.why_missing("reference loop", "cpu") == ""
    assert baselines.why_missing("mamba-ssm", "cpu") == "runs on cuda only"
    if not torch.cuda.is_available():
        assert "pip install 'rgbt-fusion[cuda]'" in baselines.why_missing("causal-conv1d", "cuda")
