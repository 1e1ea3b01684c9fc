import torch
from torch import Tensor, nn

from rgbt_fusion.typed_module import TypedModule


class Double(TypedModule):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_it_is_called_as_any_module_is():
    double = Double()
    assert isinstance(double, nn.Module)
    assert TypedModule.__call__ is nn.Module.__call__
    called = []
    double.register_forward_hook(lambda *_: called.append(True))
    assert double(torch.ones(2)).tolist() == [2, 2]
    assert called == [True]
