"""The kernels of the mutual prompter against the layer in float64."""

import json
import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton", minversion="3.3", reason="Triton is not installed")

from rgbt_fusion import MutualPrompter
from rgbt_fusion.ops.prompt_op import can_fuse_prompts


def test_the_kernels_agree_with_the_layer():
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-W", "ignore", "-m", "ops.prompts_interpreted"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 16
    for name, history, error, allowed in found:
        assert error <= allowed, (name, history)


def test_the_layer_runs_where_the_kernels_cannot():
    prompter = MutualPrompter(20)
    streams = torch.randn(4, 2, 20, 17)
    assert not can_fuse_prompts(list(streams), list(prompter.parameters()))
    prompts = prompter(streams[0], streams[1], (streams[2], streams[3]))
    stacked = prompter.stacked(streams[0], streams[1], (streams[2], streams[3]))
    assert torch.equal(torch.stack(prompts), stacked)
    sum(prompt.sum() for prompt in prompts).backward()
    assert all(parameter.grad is not None for parameter in prompter.parameters())
