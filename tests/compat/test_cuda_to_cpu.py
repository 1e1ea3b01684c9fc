"""What asks for ``cuda`` inside the block gets the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rgbt_fusion.compat import on_cpu


def test_devices_and_methods_go_to_the_cpu() -> None:
    module = nn.Linear(2, 2)
    with on_cpu():
        tensors = [
            torch.zeros(2, device="cuda"),
            torch.zeros(2, device="cuda:1"),
            torch.tensor([1.0], device=torch.device("cuda")),
            torch.ones(1).cuda(),
            torch.ones(1).to("cuda", non_blocking=True),
            torch.ones(1).to(torch.device("cuda", 0), torch.float64),
            next(module.cuda().parameters()),
            next(module.to("cuda").parameters()),
            next(nn.Linear(2, 2, device="cuda").parameters()),
        ]
    assert {x.device.type for x in tensors} == {"cpu"}
    assert tensors[5].dtype == torch.float64


def test_contexts_and_calls_of_the_device_do_nothing() -> None:
    with on_cpu():
        with torch.cuda.device(0), torch.cuda.device(torch.device("cuda:0")):
            x = torch.zeros(1)
        torch.cuda.synchronize()
        torch.cuda.set_device("cuda:0")
        assert torch.cuda.current_device() == 0
    assert x.device.type == "cpu"


def test_torch_compile_first_imported_inside_works() -> None:
    script = """
import torch
from rgbt_fusion.compat import on_cpu
with on_cpu():
    double = torch.compile(lambda x: 2 * x, backend="eager")
    print(double(torch.ones(1, device="cuda")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "tensor([2.])\n", done.stderr


def test_other_strings_and_devices_stay() -> None:
    with on_cpu():
        assert torch.zeros(1, device="meta").device.type == "meta"
        assert torch.einsum("cuda,a->cud", torch.ones(1, 1, 1, 2), torch.ones(2)).sum() == 2


def test_files_load_on_the_cpu(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "weights.pt")
    with on_cpu():
        for place in ({}, {"map_location": "cuda"}, {"map_location": torch.device("cuda", 1)}):
            loaded = torch.load(tmp_path / "weights.pt", weights_only=True, **place)
            assert loaded["x"].device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device exists")
def test_everything_is_as_before_behind_the_block() -> None:
    before = (torch.load, torch.cuda.device, torch.cuda.synchronize)
    with pytest.raises(KeyError), on_cpu():
        raise KeyError
    assert (torch.load, torch.cuda.device, torch.cuda.synchronize) == before
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1, device="cuda")
    with on_cpu():
        assert not torch.cuda.is_available()
