"""A served Mamba trains in two processes as it does in one."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from rgbt_fusion import compat

compat.install()
from mamba_ssm import Mamba

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
block, x = Mamba(8, d_state=4), torch.randn(4, 9, 8)
block(x).square().mean().backward()
alone = [parameter.grad.clone() for parameter in block.parameters()]
block.zero_grad()
half = x.chunk(2)[dist.get_rank()]
shared = DistributedDataParallel(block)
shared(half).square().mean().backward()
for parameter, want in zip(block.parameters(), alone):
    torch.testing.assert_close(parameter.grad, want)
# a process that leaves earlier can end the other one's connection under its hands
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_find_the_gradients_of_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
