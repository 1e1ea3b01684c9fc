"""Three tiny cases for compute-sanitizer: ``python -m benchmarks.card.tiny_cases``."""

import importlib
import sys
from typing import Any

from benchmarks import ROOT

__all__ = ["main"]


def main(device: str = "cuda") -> None:
    """Run a scan in chunks, an ordered one and a convolution, and hold them to the oracle."""
    sys.path.insert(0, str(ROOT / "tests"))
    agreement: Any = importlib.import_module("ops.agreement")
    backend: Any = importlib.import_module("rgbt_fusion.ops.triton.backend")
    every = agreement.ALL_OPTIONS | {"readout", "initial_state"}
    chunked = agreement.ScanCase("chunks", length=132, channels=17, state=16, options=every)
    ordered = agreement.ScanCase("order", length=72, channels=10, directions=3, order=(3, 2, 6))
    agreement.assert_scan_agrees(backend, chunked, device=device)
    agreement.assert_scan_agrees(backend, ordered, device=device)
    agreement.assert_conv_agrees(backend, agreement.ConvCase("taps"), device=device)


if __name__ == "__main__":
    main()
