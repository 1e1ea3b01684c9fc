"""Fusion layers for RGB-thermal tracking, and the complete trackers they come from."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rgbt_fusion.checks import BackendUnavailableError as BackendUnavailableError
    from rgbt_fusion.checks import ShapeError as ShapeError
    from rgbt_fusion.layers.difference_fusion_mamba import DFM as DFM
    from rgbt_fusion.layers.difference_fusion_mamba import DifferenceFusionMamba as DifferenceFusionMamba
    from rgbt_fusion.layers.mamba import MambaBlock as MambaBlock
    from rgbt_fusion.layers.order_dynamic_fusion_mamba import (
        OFM as OFM,
    )
    from rgbt_fusion.layers.order_dynamic_fusion_mamba import (
        OrderDynamicFusionMamba as OrderDynamicFusionMamba,
    )
    from rgbt_fusion.ops._dispatch import backend_report as backend_report
    from rgbt_fusion.ops.causal_conv1d import (
        causal_conv1d as causal_conv1d,
    )
    from rgbt_fusion.ops.causal_conv1d import (
        ordered_causal_conv1d as ordered_causal_conv1d,
    )
    from rgbt_fusion.ops.selective_scan import (
        OrderedScan as OrderedScan,
    )
    from rgbt_fusion.ops.selective_scan import (
        ordered_selective_scan as ordered_selective_scan,
    )
    from rgbt_fusion.ops.selective_scan import (
        selective_scan as selective_scan,
    )

_HOME = {
    "BackendUnavailableError": "checks",
    "ShapeError": "checks",
    "OrderedScan": "ops.selective_scan",
    "backend_report": "ops._dispatch",
    "causal_conv1d": "ops.causal_conv1d",
    "ordered_causal_conv1d": "ops.causal_conv1d",
    "ordered_selective_scan": "ops.selective_scan",
    "selective_scan": "ops.selective_scan",
    "MambaBlock": "layers.mamba",
    "DFM": "layers.difference_fusion_mamba",
    "DifferenceFusionMamba": "layers.difference_fusion_mamba",
    "OFM": "layers.order_dynamic_fusion_mamba",
    "OrderDynamicFusionMamba": "layers.order_dynamic_fusion_mamba",
}
"""Where each public name lives; it is imported when it is first asked for."""

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
