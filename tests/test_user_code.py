"""A type checker knows what every layer, loss and network takes and returns."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rgbt_fusion
from rgbt_fusion.benchmarking.cases import CASES, ByKeyword
from rgbt_fusion.models.presets import MODELS

RIGHT = Path(__file__).with_name("user_code.py")

# each line is an error for the reason in its comment
WRONG = """\
import torch

from rgbt_fusion import (
    CMI, DFM, MAF, OFM, TMR, TPI, Attention, FeatureDistillationLoss, MambaBlock, MutualPrompter,
    ResponseDistillationLoss, template_mask,
)

tokens = torch.zeros(1, 80, 64)
maps = torch.zeros(1, 8, 4, 4)
text: str

DFM(64)(tokens, tokens).rbg  # reportAttributeAccessIssue: a misspelt field
TPI(8)(maps, maps).rgb  # reportAttributeAccessIssue: a field of another layer's result
text = DFM(64)(tokens, tokens).fused  # reportAssignmentType: a field of another type
state, fused = TPI(8)(maps, maps)
TPI(8)(maps, maps, state)  # reportArgumentType: swapped results
CMI(8)(maps, fused)  # reportArgumentType: swapped results
rgb, tir = TMR(8)(maps, maps)  # reportAssignmentType: a result of three unpacked as two
streams = DFM(64)(tokens, tokens)
MAF(8)(streams, maps)  # reportArgumentType: a result in the place of one of its fields
DFM(64)(tokens)  # reportCallIssue: one stream is missing
DFM(64)(rgb=tokens, thermal=tokens)  # reportCallIssue: a wrong argument name
TMR(channels=8)  # reportCallIssue: a wrong argument name
DFM(64, variant="papers")  # reportArgumentType: a wrong choice
MambaBlock(64, backend="cuda")  # reportArgumentType: a wrong choice
MambaBlock(64, dt_init="uniform")  # reportArgumentType: a wrong choice
OFM(64, order_predictor="sorted")  # reportArgumentType: a wrong choice
OFM(64, order_gradient="soft")  # reportArgumentType: a wrong choice
CMI(8, direction="rgb_to_tir")  # reportArgumentType: a wrong choice
MAF(8, pooling="max")  # reportArgumentType: a wrong choice
TPI(8, cmi="both")  # reportArgumentType: a wrong choice
Attention(64, 4, attention="flash")  # reportArgumentType: a wrong choice
MutualPrompter(80, gate="softmax")  # reportArgumentType: a wrong choice
FeatureDistillationLoss(layers="odd")  # reportArgumentType: a wrong choice
ResponseDistillationLoss(form="probabilities")  # reportArgumentType: a wrong choice
template_mask("center", 8)  # reportArgumentType: a wrong choice
"""
# what strict mode also says about an expression whose type is unknown or that is not used
CONSEQUENCES = {"reportUnknownMemberType", "reportUnknownVariableType", "reportUnusedExpression"}


@pytest.fixture(scope="module")
def diagnostics(tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    """What pyright says in strict mode about the right and the wrong file."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "right.py").write_text(RIGHT.read_text())
    (folder / "wrong.py").write_text(WRONG)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    found: dict[str, list[dict[str, Any]]] = {"right": [], "wrong": []}
    for diagnostic in json.loads(done.stdout)["generalDiagnostics"]:
        found[Path(diagnostic["file"]).stem].append(diagnostic)
    return found


def line_of(diagnostic: dict[str, Any]) -> int:
    return diagnostic["range"]["start"]["line"]


def test_right_code_has_no_error(diagnostics):
    errors = [x for x in diagnostics["right"] if x["severity"] == "error"]
    assert not errors, errors[0]["message"]


def test_every_call_has_its_type(diagnostics):
    lines = RIGHT.read_text().splitlines()
    expected = {
        number: line.split("  # ")[1]
        for number, line in enumerate(lines)
        if line.startswith("reveal_type(")
    }
    revealed = {
        line_of(x): re.findall(r'"([^"]*)"$', x["message"])[0]
        for x in diagnostics["right"]
        if x["severity"] == "information"
    }
    assert revealed == expected


def test_every_layer_loss_and_network_is_called():
    called = set()
    for name in re.findall(r"^reveal_type\((\w+)\(", RIGHT.read_text(), re.MULTILINE):
        found = getattr(rgbt_fusion, name, None)
        if isinstance(found, type):
            called.add(found)
    layers = [case.small.build() for case in CASES]
    built = {type(x.module if isinstance(x, ByKeyword) else x) for x in layers}
    networks = {preset.network for preset in MODELS.values()}
    assert built | networks <= called


def test_each_wrong_line_is_an_error_and_no_other(diagnostics):
    lines = WRONG.splitlines()
    expected = {
        number: line.split("  # ")[1].split(":")[0]
        for number, line in enumerate(lines)
        if "  # report" in line
    }
    found: dict[int, set[str]] = {}
    for diagnostic in diagnostics["wrong"]:
        if diagnostic["severity"] == "error" and diagnostic["rule"] not in CONSEQUENCES:
            found.setdefault(line_of(diagnostic), set()).add(diagnostic["rule"])
    for number, rule in expected.items():
        assert rule in found.get(number, set()), lines[number]
    assert set(found) == set(expected), [lines[n] for n in set(found) - set(expected)]
