"""Several processes: a shared batch gives what one process gives."""

import pytest
import torch
from torch import nn

from one_training import SMALL, small_training, train_in_two_processes
from rgbt_fusion.training import train
from rgbt_fusion.training.checkpoints import read_checkpoint
from rgbt_fusion.training.distributed import (
    Processes,
    SynchronisedBatchNorm,
    join_processes,
    synchronise_batch_norms,
)


@pytest.mark.parametrize("model", ["ainet_tiny_128"])
def test_two_processes_train_as_one_does(tmp_path, model):
    changes = {
        "model": model,
        "overrides": SMALL | {"drop_path": 0.0},
        "steps": 20,
        "batch_size": 4,
        "precision": "float64",
        "checkpoint_every": 20,
        # the samples of one half have no target inside the crop now and then: the positives must be
        # counted together
        "augmentation": {"centre_jitter": 3.9, "scale_jitter": 0.5},
    }
    train_in_two_processes(tmp_path / "two", changes)
    train(small_training(**changes), out=tmp_path / "one", device="cpu")
    ours, theirs = (
        read_checkpoint(tmp_path / which / "checkpoint.pt")["objective"] for which in ("two", "one")
    )
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.allclose(ours[name].double(), value.double(), rtol=0, atol=1e-5), name
    first, last = (
        [
            float(line.split(",")[1])
            for line in (tmp_path / which / "log.csv").read_text().splitlines()[1:]
        ]
        for which in ("one", "two")
    )
    assert first == pytest.approx(last, abs=1e-4)
    assert len(set(first)) == 20


def test_a_share_of_the_batch():
    assert [Processes(rank, 3).share(12) for rank in range(3)] == [(0, 4), (4, 8), (8, 12)]
    with pytest.raises(ValueError, match="batch_size must be divisible by the 3 processes, got 8"):
        Processes(0, 3).share(8)


def test_one_process_needs_no_others():
    with join_processes(torch.device("cpu")) as processes:
        assert processes == Processes(0, 1)
        assert processes.mean(torch.tensor(3.0)) == 3
        processes.wait()


@pytest.fixture
def group_of_one(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_a_shared_batch_norm_is_a_batch_norm(group_of_one):
    torch.manual_seed(0)
    reference = nn.BatchNorm2d(3).double()
    nn.init.normal_(reference.weight)
    model = nn.Sequential(nn.BatchNorm2d(3).double())
    model[0].load_state_dict(reference.state_dict())
    synchronise_batch_norms(model)
    assert isinstance(model[0], SynchronisedBatchNorm)
    x = torch.randn(4, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x)
    grads = []
    for module in (reference, model):
        x.grad = None
        (module(x) * weight).sum().backward()
        grads.append(x.grad.clone())
    assert torch.allclose(*grads)
    assert torch.allclose(reference.weight.grad, model[0].weight.grad)
    for name, value in reference.state_dict().items():
        assert torch.allclose(model[0].state_dict()[name], value), name
    reference.eval()
    model.eval()
    assert torch.allclose(model(x), reference(x))
    assert torch.autograd.gradcheck(
        model.train(), torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    )
