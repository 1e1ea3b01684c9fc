"""``mamba_ssm.Mamba``: the block of this library under that name."""

from rgbt_fusion.layers.mamba import MambaBlock

__all__ = ["Mamba"]


class Mamba(MambaBlock):
    """:class:`~rgbt_fusion.MambaBlock` under the name by which clients look it up."""
