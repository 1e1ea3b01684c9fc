import pytest
import torch

import contracts
from rgbt_fusion.benchmarking.cases import CASES

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_runs_in_both_precisions(case, dtype):
    contracts.runs_in(case, dtype)


@every_case
def test_gives_every_parameter_a_gradient(case):
    contracts.gives_every_parameter_a_gradient(case)


@pytest.mark.parametrize("case", [c for c in CASES if c.exact_gradient], ids=lambda case: case.name)
def test_passes_gradcheck(case):
    contracts.passes_gradcheck(case)


@every_case
def test_survives_a_state_dict(case):
    contracts.survives_a_state_dict(case)


@pytest.mark.parametrize("case", [c for c in CASES if c.per_sample], ids=lambda case: case.name)
def test_keeps_samples_apart(case):
    contracts.keeps_samples_apart(case)


@every_case
def test_takes_strided_inputs(case):
    contracts.takes_strided_inputs(case)


@every_case
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_survives_checkpointing(case, use_reentrant):
    contracts.survives_checkpointing(case, use_reentrant=use_reentrant)


@every_case
def test_compiles_in_one_graph(case):
    contracts.compiles_in_one_graph(case)


@every_case
def test_exports(case):
    contracts.exports(case)


@every_case
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_runs_on_a_gpu(case):
    contracts.runs_on(case, "cuda")


@every_case
def test_names_what_is_wrong(case):
    contracts.names_what_is_wrong(case)


@every_case
def test_shows_its_options(case):
    contracts.shows_its_options(case)


@every_case
def test_documents_its_call(case):
    contracts.documents_its_call(case)


@pytest.mark.slow
def test_one_layer_compiles_with_inductor():
    (case,) = [case for case in CASES if case.name == "DFM"]
    contracts.compiles_in_one_graph(case, backend="inductor")


def test_every_layer_has_a_row():
    import ast
    from pathlib import Path

    import rgbt_fusion

    layers = Path(rgbt_fusion.__file__).parent / "layers"
    built = {type(case.small.build()).__name__ for case in CASES}
    parts = {
        "DropPath",
        "MLP",
        "OrderedMamba",
        "PooledOrderPredictor",
        "Prompter",
        "ReleasedOrderPredictor",
        "SelfAttention",
        "TransformerBlock",
    }
    for path in layers.glob("*.py"):
        classes = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
        ]
        modules = {
            c.name
            for c in classes
            if any("Module" in ast.unparse(b) or "Attention" in ast.unparse(b) for b in c.bases)
        }
        public = {name for name in modules - parts if not name.startswith("_")}
        assert public <= built, f"no row in CASES for {sorted(public - built)}"
