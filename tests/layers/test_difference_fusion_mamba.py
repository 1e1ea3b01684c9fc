import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rgbt_fusion import DFM, DifferenceFusionMamba, ShapeError
from shared_material import shared


def test_acronym_is_the_class():
    assert DFM is DifferenceFusionMamba


@pytest.fixture(scope="module")
def recorded():
    """The authors' fusion layer: our stand-in weights, inputs, and what their code computed."""
    folder = shared("conformance/sigma_fusion")
    sys.path.insert(0, str(folder.parent))
    import make_weights

    weights = make_weights.make_state_dict(str(folder / "keys.json"))
    inputs = [torch.from_numpy(make_weights.make_input(seed, (2, 320, 768))) for seed in (5, 6)]
    sys.path.remove(str(folder.parent))
    tolerances = json.loads((folder / "tolerances.json").read_text())
    layer = DFM(768)
    layer.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
    projection = torch.from_numpy(make_weights.make_input(99, (768, 4)))
    return layer, inputs, np.load(folder / "expected.npz"), tolerances, projection


def test_reproduces_the_authors_layer_in_float32(recorded):
    layer, (rgb, tir), expected, tolerances, projection = recorded
    with torch.no_grad():
        out = layer.float()(rgb, tir)
    for name in ("rgb", "tir", "fused"):
        x = getattr(out, name)
        parts = {"first": x[:, :4, :8], "last": x[:, -4:, :8], "proj": x @ projection / 768**0.5}
        for part, value in parts.items():
            error = np.abs(value.numpy() - expected[f"{name}.{part}"]).max()
            assert error <= tolerances[f"{name}.{part}"]["atol_f32"], (name, part, error)


def test_reproduces_the_authors_layer_in_float64(recorded):
    # The layer is causal: the first tokens alone give the first results.
    layer, (rgb, tir), expected, tolerances, projection = recorded
    with torch.no_grad():
        out = layer.double()(rgb[:, :24].double(), tir[:, :24].double())
    for name in ("rgb", "tir", "fused"):
        x = getattr(out, name)
        parts = {"first": x[:, :4, :8], "proj": x @ projection.double() / 768**0.5}
        for part, value in parts.items():
            error = np.abs(
                value.numpy() - expected[f"{name}.{part}@f64"][:, : value.shape[1]]
            ).max()
            assert error <= tolerances[f"{name}.{part}"]["atol_f64"], (name, part, error)


def test_equals_equations_7_and_8():
    torch.manual_seed(0)
    layer = DFM(8).double()
    rgb, tir = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    mask = torch.tanh(
        layer.mamba(F.layer_norm(rgb - tir, (8,), layer.norm.weight, layer.norm.bias, 1e-5))
    )
    out = layer(rgb, tir)
    torch.testing.assert_close(out.rgb, rgb + tir * mask)
    torch.testing.assert_close(out.tir, tir + rgb * mask)
    linear, norm = layer.fuse
    joined = F.layer_norm(
        torch.cat([out.rgb, out.tir], -1) @ linear.weight.T + linear.bias,
        (8,),
        norm.weight,
        norm.bias,
    )
    torch.testing.assert_close(out.fused, F.gelu(joined))
    layer.variant = "paper"
    torch.testing.assert_close(layer(rgb, tir).fused, torch.tanh(joined))


def test_equal_streams_are_treated_alike():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    out = DFM(8)(x, x)
    torch.testing.assert_close(out.rgb, out.tir)


def test_joining_a_part_equals_a_part_of_joining():
    torch.manual_seed(0)
    layer, rgb, tir = DFM(8), torch.randn(2, 9, 8), torch.randn(2, 9, 8)
    enhanced = layer.enhance(rgb, tir)
    part = layer.join(enhanced[0][:, 4:], enhanced[1][:, 4:])
    torch.testing.assert_close(part, layer(rgb, tir).fused[:, 4:])


def test_counts_its_parameters_at_the_authors_width():
    with torch.device("meta"):
        assert sum(p.numel() for p in DFM(768).parameters()) == 3_068_928


def test_keeps_mambas_own_step_sizes():
    assert F.softplus(DFM(64).mamba.dt_proj.bias).max() <= 0.11


def test_bad_arguments_and_inputs_are_named():
    with pytest.raises(ValueError, match="variant must be one of 'released', 'paper', got 'tanh'"):
        DFM(8, variant="tanh")
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        DFM(0)
    layer, x = DFM(8), torch.randn(2, 5, 8)
    with pytest.raises(
        ShapeError, match=r"rgb must have shape \(B, L, C\) with C = 8, got \(2, 5\)"
    ):
        layer(x[..., 0], x)
    with pytest.raises(
        ShapeError, match=r"tir must have the shape of rgb \(2, 5, 8\), got \(2, 4, 8\)"
    ):
        layer(x, x[:, 1:])
    with pytest.raises(TypeError, match="rgb must be a tensor"):
        layer(None, x)
