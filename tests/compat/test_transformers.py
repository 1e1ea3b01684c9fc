"""The Mamba models of transformers, untouched: on our names they compute what they do alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)

SCRIPT = """
import os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from rgbt_fusion import compat

served = sys.argv[2] == "served"
if served:
    compat.install()
from transformers import MambaConfig, MambaForCausalLM

torch.set_num_threads(1)
torch.manual_seed(0)
config = MambaConfig(
    vocab_size=40, hidden_size=16, state_size=4, num_hidden_layers=2, pad_token_id=0,
    eos_token_id=None, bos_token_id=1, use_mambapy=False,
)
model = MambaForCausalLM(config)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
tokens = torch.randint(1, 40, (2, 9))
found = {}


def gradients(module):
    model.zero_grad()
    logits = module(tokens, use_cache=False).logits
    logits.square().mean().backward()
    return [logits.detach(), *(x.grad.clone() for x in model.parameters())]


found["training"] = gradients(model.train())
if served:
    for reentrant in (True, False):
        options = {"use_reentrant": reentrant}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        found[f"checkpointed, reentrant {reentrant}"] = gradients(model)
    model.gradient_checkpointing_disable()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, fullgraph=True, backend=count)
    found["compiled"] = gradients(compiled)
    found["graphs"] = len(graphs)
with torch.no_grad():
    found["evaluated"] = [model.eval()(tokens).logits]
found["generated"] = model.generate(
    tokens, max_new_tokens=6, do_sample=False, use_cache=True
)
found["calls"] = compat.report().calls
torch.save(found, sys.argv[1])
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the model computes on our names, and alone."""
    folder: Path = tmp_path_factory.mktemp("transformers")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    found = {}
    for kind in ("served", "alone"):
        out = folder / f"{kind}.pt"
        command = [sys.executable, "-W", "ignore", str(script), str(out), kind]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found[kind] = torch.load(out)
    return found


def assert_near(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for x, y in zip(found, wanted, strict=True):
        error = (x - y).norm() / y.norm().clamp(min=1e-12)
        assert error < 1e-5, f"relative error {error:.1e}"


def test_outputs_gradients_and_generated_tokens_are_the_same(results):
    served, alone = results["served"], results["alone"]
    assert not alone["calls"]
    names = {name.rpartition(".")[2] for name in served["calls"]}
    assert {"mamba_inner_fn", "selective_scan_fn", "causal_conv1d_fn"} <= names
    assert {"causal_conv1d_update", "selective_state_update"} <= names
    for kind in ("training", "evaluated"):
        assert_near(served[kind], alone[kind])
    assert torch.equal(served["generated"], alone["generated"])


def test_it_compiles_as_one_graph(results):
    assert results["served"]["graphs"] == 1
    assert_near(results["served"]["compiled"], results["alone"]["training"])


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_of_both_kinds_changes_nothing(results, reentrant):
    found = results["served"][f"checkpointed, reentrant {reentrant}"]
    assert_near(found, results["alone"]["training"])
