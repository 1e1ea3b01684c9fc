"""What the presets cost, counted once: counting takes about a second per preset."""

from typing import NamedTuple

import torch

from rgbt_fusion.models.presets import build_preset, check_preset_name
from rgbt_fusion.models.summary import summarise

__all__ = ["FIGURES", "Figures", "preset_figures"]


class Figures(NamedTuple):
    """What a preset costs."""

    parameters: int
    """Numbers that it learns."""
    macs: int
    """Multiply-accumulates of one step at batch 1, template included."""


FIGURES: dict[str, Figures] = {
    "ostrack_vitb_256": Figures(92_518_533, 22_639_743_104),
    "ostrack_vitb_384": Figures(92_825_733, 54_085_619_568),
    "ostrack_vits_256": Figures(25_608_453, 6_555_317_888),
    "ostrack_vits_384": Figures(25_762_053, 16_336_492_656),
    "ostrack_tiny_128": Figures(1_196_133, 91_045_584),
    "two_stream_vitb_256": Figures(92_518_533, 60_166_807_552),
    "two_stream_vits_256": Figures(25_608_453, 16_642_514_944),
    "two_stream_tiny_128": Figures(1_196_133, 197_552_640),
    "ainet_vitb_256": Figures(133_634_321, 84_964_188_928),
    "ainet_vitb_384": Figures(133_941_521, 201_785_518_848),
    "ainet_vits_256": Figures(36_102_545, 23_308_116_736),
    "ainet_vits_384": Figures(36_256_145, 57_751_309_056),
    "ainet_tiny_128": Figures(1_724_649, 276_564_736),
    "ainet_vitb_256_compact": Figures(108_320_705, 64_684_159_744),
    "ainet_vits_256_compact": Figures(29_593_961, 17_789_078_272),
    "ainet_tiny_128_compact": Figures(1_358_193, 208_831_744),
    "ainet_vitb_256_released": Figures(135_978_001, 85_895_913_472),
    "ainet_vitb_384_released": Figures(136_285_201, 208_153_946_112),
    "tpmri_vitb_256": Figures(93_545_830, 22_924_764_768),
    "tpmri_vits_256": Figures(26_077_414, 6_700_572_768),
    "tpmri_tiny_128": Figures(1_314_054, 112_572_016),
    "mutual_prompt_teacher_vitb_256": Figures(94_198_852, 60_471_560_192),
    "mutual_prompt_teacher_vits_256": Figures(26_403_652, 16_720_366_592),
    "mutual_prompt_teacher_tiny_128": Figures(1_241_634, 199_744_768),
    "one_stream_student_vitb_256": Figures(93_698_949, 64_243_671_040),
    "one_stream_student_vits_256": Figures(25_903_749, 18_605_449_216),
    "one_stream_student_tiny_128": Figures(1_229_029, 212_756_992),
    "compensation_vitb_256": Figures(100_786_053, 33_849_647_104),
    "compensation_vits_256": Figures(27_677_829, 9_618_104_320),
    "compensation_tiny_128": Figures(1_427_173, 147_548_672),
}
"""What :func:`~rgbt_fusion.models.summary.summarise` counts of the presets that come with the
package; the tests count it anew."""


def preset_figures(name: str) -> Figures:
    """Return what a preset costs; one that was added to ``MODELS`` is counted.

    Raises:
        ValueError: there is no such preset.

    Example:
        >>> from rgbt_fusion.models.preset_figures import preset_figures
        >>> preset_figures("ostrack_tiny_128").parameters
        1196133
    """
    check_preset_name(name, name="name")
    if name in FIGURES:
        return FIGURES[name]
    with torch.device("meta"):
        summary = summarise(build_preset(name))
    return Figures(summary.parameters, summary.macs)
