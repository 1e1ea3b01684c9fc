"""Public Mamba code on this library: the names of mamba-ssm and causal-conv1d, served here."""

from rgbt_fusion.compat.cuda_to_cpu import on_cpu
from rgbt_fusion.compat.names import Report, install, report, uninstall

__all__ = ["Report", "install", "on_cpu", "report", "uninstall"]
