"""Names, shapes and first values of all parameters, as weights that were saved need them.

    python tests/layers/test_parameters.py

writes them down again, where a change is meant; the changelog then says how old weights are read.
"""

import json
import sys
from pathlib import Path

import pytest

# also where this file is run as a program
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contracts
from rgbt_fusion.benchmarking.cases import CASES, Case

RECORDED = Path(__file__).with_name("parameters.json")


def parameters(case: Case) -> dict[str, tuple[list[int], float]]:
    """Return the shape of each parameter and buffer, and its mean absolute value at the start."""
    layer, _ = contracts.build(case)
    found = {}
    for name, x in layer.state_dict().items():
        size = x.double().abs().mean().item()
        found[name] = (list(x.shape), float(f"{size:.6g}"))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parameters_are_those_of_saved_weights(case: Case) -> None:
    recorded = json.loads(RECORDED.read_text())[case.name]
    found = parameters(case)
    shapes = {name: shape for name, (shape, _) in found.items()}
    assert shapes == {name: shape for name, (shape, _) in recorded.items()}
    for name, (_, size) in recorded.items():
        assert found[name][1] == pytest.approx(size, rel=0.01, abs=1e-6), f"{name} starts elsewhere"


def record() -> None:
    """Write what the test compares with, a line per parameter."""
    cases = []
    for case in CASES:
        rows = [
            f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in parameters(case).items()
        ]
        cases.append(f"{json.dumps(case.name)}: {{\n" + ",\n".join(rows) + "\n}")
    RECORDED.write_text("{\n" + ",\n".join(cases) + "\n}\n")


if __name__ == "__main__":
    record()
