"""What the kernels are measured against computes the same scan."""

import pytest
import torch
from torch import Tensor

from ops.agreement import ALL_OPTIONS, ScanCase, make_scan_inputs, run_scan
from rgbt_fusion.benchmarking.pure_pytorch_loop import chunked_loop, mamba_ssm_loop, whole_sequence_loop
from rgbt_fusion.ops import _reference


@pytest.mark.parametrize("options", [frozenset(), ALL_OPTIONS], ids=["no option", "all options"])
def test_loops_compute_what_the_reference_computes(options: frozenset[str]) -> None:
    inputs = make_scan_inputs(ScanCase("", length=127, options=options), torch.float64)
    arguments = {k: v[0] for k, v in inputs._asdict().items() if isinstance(v, Tensor)}
    arguments |= {"B": arguments["B"].squeeze(2), "C": arguments["C"].squeeze(2)}
    turned = {k: v.mT if k in ("u", "delta", "B", "C", "z") else v for k, v in arguments.items()}
    want = run_scan(_reference, inputs, grads=False)["out"][0]
    softplus = inputs.delta_softplus
    torch.testing.assert_close(mamba_ssm_loop(**turned, delta_softplus=softplus).mT, want)
    torch.testing.assert_close(whole_sequence_loop(**arguments, delta_softplus=softplus), want)
    torch.testing.assert_close(chunked_loop(**arguments, delta_softplus=softplus), want)
