import inspect

import pytest
import torch

import rgbt_fusion.layers
import rgbt_fusion.losses
from rgbt_fusion.benchmarking.cases import CASES, find_setup
from rgbt_fusion.benchmarking.workloads import Workload, prepare

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
def test_the_small_size_runs_forward_and_backward(case):
    outputs = prepare(Workload("layer", f"{case.name}: small", backward=True))()
    assert len(outputs) > 1, "no gradient comes back"


@every_case
def test_the_full_sizes_are_those_of_a_tracker(case):
    for setup in case.full:
        inputs = setup.inputs(torch.Generator(), torch.float32)
        assert find_setup(f"{case.name}: {setup.size}") is setup
        assert setup.size
        assert inputs


def test_names_are_unique_and_counterparts_exist():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {case.compared_with for case in CASES} - {None} <= set(names)


def test_inputs_repeat_and_follow_the_dtype():
    (case,) = (case for case in CASES if case.name == "DFM")
    first, second = (
        case.small.inputs(torch.Generator().manual_seed(3), torch.bfloat16) for _ in range(2)
    )
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
    assert {x.dtype for x in first} == {torch.bfloat16}


def test_an_unknown_name_is_refused():
    with pytest.raises(
        ValueError, match="one of the cases and sizes of CASES, got 'DFM: 3 tokens'"
    ):
        find_setup("DFM: 3 tokens")


PARTS = {
    "MLP": "EncoderBlock",
    "DropPath": "EncoderBlock",
    "PooledOrderPredictor": "OFM",
    "Prompter": "MutualPrompter",
    "ReleasedOrderPredictor": "OFM",
    "OrderedMamba": "OFM",
    "SelfAttention": "Attention",
    "TransformerBlock": "EncoderBlock",
}
"""What is measured inside another row."""


@pytest.mark.parametrize(
    "folder", [rgbt_fusion.layers, rgbt_fusion.losses], ids=["layers", "losses"]
)
def test_every_module_has_a_row(folder):
    import importlib
    import pkgutil

    built = {type(part) for case in CASES for part in case.small.build().modules()}
    for name in (x.name for x in pkgutil.iter_modules(folder.__path__)):
        module = importlib.import_module(f"{folder.__name__}.{name}")
        for _, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__ and issubclass(found, torch.nn.Module):
                private = found.__name__.startswith("_") or found.__name__ in PARTS
                assert private or found in built, f"{found.__name__} has no row in CASES"
