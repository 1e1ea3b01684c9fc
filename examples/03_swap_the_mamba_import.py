"""Swap an import of mamba_ssm for ours: same constructor, same state_dict, on any machine."""

import torch

# was: from mamba_ssm import Mamba
from rgbt_fusion import MambaBlock as Mamba
from rgbt_fusion import backend_report

# was: from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
from rgbt_fusion import selective_scan as selective_scan_fn

torch.manual_seed(0)
block = Mamba(d_model=192, d_state=16, d_conv=4, expand=2)
state_dict = {name: tensor.clone() for name, tensor in block.state_dict().items()}
block.load_state_dict(state_dict)  # a state_dict of mamba_ssm.Mamba loads unchanged
tokens = torch.randn(2, 320, 192, requires_grad=True)
block(tokens).sum().backward()
print(f"block: {tuple(tokens.grad.shape)} gradient for {tuple(tokens.shape)} tokens")

u, delta, z = (torch.randn(2, 384, 320) for _ in range(3))
A = -torch.rand(384, 16)
B, C = torch.randn(2, 16, 320), torch.randn(2, 16, 320)
out, last_state = selective_scan_fn(
    u, delta, A, B, C, z=z, delta_softplus=True, return_last_state=True
)
print(f"op: out {tuple(out.shape)}, last state {tuple(last_state.shape)}")
print(f"ran on: {backend_report()['selective_scan']['chosen']}")
