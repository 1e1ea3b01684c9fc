"""Where each dataset keeps its images, boxes and labels: one row per dataset.

To read another dataset, add a row. Folders and files are alternatives in order of preference,
because copies of the same dataset differ. The case of a folder's name does not matter. Nothing has
to be renamed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from rgbt_fusion.checks import check_choice

__all__ = [
    "LAYOUTS",
    "BoxFormat",
    "Layout",
    "SecondModality",
    "get_layout",
    "unnamed_images",
    "where_attributes_lie",
]

BoxFormat: TypeAlias = Literal["auto", "xywh", "xyxy", "corners"]
"""Meaning of the columns of a box, see :func:`~rgbt_fusion.data.annotations.to_xywh`."""

SecondModality: TypeAlias = Literal["thermal", "depth", "event"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one dataset lays out a sequence."""

    title: str
    rgb: tuple[str, ...] = ()
    """Folder of the colour images; ``"."`` is the sequence's own folder, and ``{name}`` in a name
    stands for the sequence's. Empty for datasets of the second modality alone."""
    rgb_is_depth: bool = False
    """Whether depth takes the place of colour; it is painted."""
    tir: tuple[str, ...] = ()
    """Folder of the second modality, likewise; empty for RGB datasets."""
    kind: SecondModality = "thermal"
    truth: tuple[str, ...] = ("groundtruth.txt",)
    """File of the boxes in the colour images; ``{name}`` as in ``rgb``."""
    truth_folder: str = ""
    """Folder beside that of the sequences which holds ``<sequence>.txt``, if the boxes are not in
    the sequences' own folders."""
    truth_tir: tuple[str, ...] = ()
    """File of the boxes in the second modality, if they are annotated separately."""
    regions: bool = False
    """Whether the boxes may be polygons or masks of the VOT challenges."""
    box_format: BoxFormat = "xywh"
    annotated_every: int = 1
    """One image in this many has a box."""
    present: tuple[str, ...] = ()
    """File with one number per frame, above 0 if the target is visible."""
    starts_present: bool = False
    """Whether a sequence begins with the first frame in which the target is visible."""
    views: tuple[str, ...] = ()
    """What the names of views begin with, where a sequence is recorded from several places. Each
    view is a sequence of its own, ``<sequence>.<view>``."""
    several_targets: bool = False
    """Whether ``truth`` may be numbered, one file per target: ``groundtruth_rect.1.txt``."""
    first_image: Mapping[str, int] = field(default_factory=dict)
    """By sequence: how many images come before the first annotated one."""
    attributes: tuple[str, ...] = ()
    attribute_folder: str = ""
    """Folder beside the sequences. It holds one file per sequence with one flag per attribute, or
    one ``<ATTRIBUTE>.txt`` per attribute and ``SequencesName.txt``."""
    name_attributes: tuple[str, ...] = ()
    """Attributes that the names of sequences begin with: ``<ATTRIBUTE>_...``."""
    tags: bool = False
    """Whether a sequence's folder has one ``<attribute>.tag`` or ``.label`` per attribute, with a
    flag per frame."""

    def of(self, name: str) -> "Layout":
        """Return the layout of one sequence, its name put in for ``{name}``."""
        places = (*self.rgb, *self.tir, *self.truth, *self.truth_tir)
        if not any("{name}" in place for place in places):
            return self

        def named(alternatives: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(place.replace("{name}", name) for place in alternatives)

        return replace(
            self,
            rgb=named(self.rgb),
            tir=named(self.tir),
            truth=named(self.truth),
            truth_tir=named(self.truth_tir),
        )


_RGBT234_ATTRIBUTES = ("BC", "CM", "DEF", "FM", "HO", "LI", "LR", "MB", "NO", "TC", "PO", "SC")

_LASHER_ATTRIBUTES = (
    *("NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF"),
    *("BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV", "ARC"),
)

_RGBDT500_TRUTH = ("ground_truth.txt", "groundtruth.txt")

_VTUAV = Layout(
    title="VTUAV short-term",
    rgb=("rgb",),
    tir=("ir", "ir_gray"),
    truth=("rgb.txt",),
    truth_tir=("ir.txt",),
    annotated_every=10,
)

LAYOUTS: dict[str, Layout] = {
    "gtot": Layout(
        title="GTOT",
        rgb=("v",),
        tir=("i",),
        truth=("groundTruth_v.txt",),
        truth_tir=("groundTruth_i.txt",),
        box_format="xyxy",
        attributes=("OCC", "LSV", "FM", "LI", "TC", "SO", "DEF"),
        attribute_folder="attr_txt",
    ),
    "rgbt210": Layout(
        title="RGBT210",
        rgb=("visible",),
        tir=("infrared",),
        truth=("init.txt",),
        attributes=_RGBT234_ATTRIBUTES,
        attribute_folder="attr_txt",
    ),
    "rgbt234": Layout(
        title="RGBT234",
        rgb=("visible",),
        tir=("infrared",),
        truth=("visible.txt",),
        truth_tir=("infrared.txt",),
        attributes=_RGBT234_ATTRIBUTES,
        attribute_folder="attr_txt",
    ),
    "lasher": Layout(
        title="LasHeR",
        rgb=("visible",),
        tir=("infrared",),
        truth=("init.txt", "visible.txt", "infrared.txt"),
        attributes=_LASHER_ATTRIBUTES,
        attribute_folder="AttriSeqsTxt",
    ),
    "vtuav_st": _VTUAV,
    "vtuav_lt": _VTUAV,
    "depthtrack": Layout(title="DepthTrack", rgb=("color",), tir=("depth",), kind="depth"),
    "visevent": Layout(
        title="VisEvent",
        rgb=("vis_imgs",),
        tir=("event_imgs",),
        kind="event",
        present=("absent_label.txt",),
        starts_present=True,
        attributes=(
            *("CM", "ROT", "DEF", "FOC", "LI", "OV", "POC", "VC", "SV"),
            *("BC", "MB", "ARC", "FM", "NMO", "IV", "OE", "BOM"),
        ),
        attribute_folder="att",
    ),
    "got10k": Layout(title="GOT-10k", rgb=(".",), present=("cover.label",)),
    "otb100": Layout(
        title="OTB-100",
        rgb=("img",),
        truth=("groundtruth_rect.txt",),
        several_targets=True,
        first_image={"David": 299},
    ),
    "vot_rgbt": Layout(
        title="VOT-RGBT",
        rgb=("color",),
        tir=("ir",),
        regions=True,
        tags=True,
    ),
    "lasher_unaligned": Layout(
        title="LasHeR unaligned",
        rgb=("visible",),
        tir=("infrared",),
        truth=("visible.txt",),
        truth_tir=("infrared.txt",),
        attributes=_LASHER_ATTRIBUTES,
        attribute_folder="AttriSeqsTxt",
    ),
    "muart244": Layout(
        title="MUART244",
        rgb=("visible",),
        tir=("infrared",),
        truth=("visible.txt",),
        truth_tir=("infrared.txt",),
        attributes=(
            *("NO", "PO", "TO", "OV", "TOV", "LI", "HI", "AIV", "LR", "BC", "SA", "TC"),
            *("CM", "FM", "SV", "ARC", "HM", "VM", "RM", "PAC", "FG", "CZ", "HD", "UAV"),
            # how far the modalities are apart, and how unlike their scales
            *(f"OFF{level}" for level in range(1, 12)),
            *(f"AREA{level}" for level in range(1, 9)),
        ),
        attribute_folder="AttriSeqsTxt",
    ),
    "luart": Layout(
        title="LUART",
        rgb=("NotAlign/visible",),
        tir=("NotAlign/infrared",),
        truth=("visible.txt",),
        truth_tir=("infrared.txt",),
        attributes=(
            *("PO", "TO", "LI", "HI", "IV", "DEF", "BC", "MB", "FM", "SV", "ARC"),
            *("SA", "TC", "FL", "SO", "TOV", "HM", "VM", "FR", "PAC", "FG", "CZ"),
        ),
        attribute_folder="attribute_annotation",
    ),
    "drgbt603": Layout(title="DRGBT603", rgb=("up",), tir=("down",), truth=("init.txt",)),
    "drgbt1k": Layout(
        title="DRGBT-1K",
        rgb=("RGB",),
        tir=("TIR",),
        truth=("init.txt",),
        views=("ground_view", "uav_view"),
    ),
    "mv_rgbt": Layout(
        title="MV-RGBT",
        rgb=("visible", "color"),
        tir=("infrared",),
        truth=("visible.txt", "{name}_1.txt"),
        truth_tir=("infrared.txt", "{name}_1.txt"),
        name_attributes=("ER", "ET"),
    ),
    "rgbdt500": Layout(
        title="RGBDT500",
        rgb=("color",),
        tir=("infrared", "ir", "thermal"),
        truth=_RGBDT500_TRUTH,
    ),
    "rgbdt500_depth": Layout(
        title="RGBDT500, colour and depth",
        rgb=("color",),
        tir=("depth",),
        kind="depth",
        truth=_RGBDT500_TRUTH,
    ),
    "rgbdt500_depth_infrared": Layout(
        title="RGBDT500, depth and infrared",
        rgb=("depth",),
        rgb_is_depth=True,
        tir=("infrared", "ir", "thermal"),
        truth=_RGBDT500_TRUTH,
    ),
    "coesot": Layout(
        title="COESOT",
        rgb=("{name}_aps", "color_frames"),
        tir=("{name}_dvs", "event_frames"),
        kind="event",
        present=("absent.txt", "absent_label.txt"),
    ),
    "felt": Layout(
        title="FELT",
        rgb=("{name}_aps",),
        tir=("{name}_dvs",),
        kind="event",
        present=("absent.txt", "absent_label.txt"),
    ),
    "eventvot": Layout(title="EventVOT", tir=("img",), kind="event", present=("absent.txt",)),
    "trackingnet": Layout(title="TrackingNet", rgb=(".",), truth_folder="anno"),
    "lsotb_tir": Layout(title="LSOTB-TIR", tir=("img",), truth=("groundtruth_rect.txt",)),
    "ptb_tir": Layout(title="PTB-TIR", tir=("img",), truth=("groundtruth_rect.txt",)),
    "antiuav410": Layout(title="Anti-UAV410", tir=(".",), truth=("IR_label.json",)),
    "folder": Layout(
        title="plain folder",
        rgb=(
            *("rgb", "visible", "color", "colour", "v", "vi", "vis", "vis_img", "vis_imgs"),
            *("rgb_img", "rgb_imgs", "optical", "img"),
        ),
        tir=(
            *("tir", "thermal", "infrared", "ir", "i", "t", "th", "lwir", "mwir", "swir", "nir"),
            *("ir_img", "ir_imgs", "tir_img", "tir_imgs", "thermal_8_bit", "thermal_16_bit"),
            *("depth", "event_imgs"),
        ),
        truth=(
            *("groundtruth.txt", "init.txt", "boxes.txt", "rgb.txt", "visible.txt"),
            *("groundtruth_rect.txt", "tir.txt", "ir.txt", "infrared.txt"),
        ),
        box_format="auto",
    ),
}
"""How each dataset lays its files out, by the name that ``open_dataset`` takes."""


def get_layout(layout: str) -> Layout:
    """Return a row of ``LAYOUTS``.

    Raises:
        ValueError: ``layout`` is not a key of ``LAYOUTS``.

    Example:
        >>> from rgbt_fusion.data.layouts import get_layout
        >>> get_layout("gtot").rgb
        ('v',)
    """
    check_choice(layout, LAYOUTS, name="layout")
    return LAYOUTS[layout]


def where_attributes_lie(layout: str, root: str | Path | None = None) -> str:
    """Say where the attributes of a dataset are looked for.

    Args:
        layout: a key of ``LAYOUTS``.
        root: the dataset's folder; None says it in general.

    Raises:
        ValueError: ``layout`` is not a key of ``LAYOUTS``.

    Example:
        >>> from rgbt_fusion.data.layouts import where_attributes_lie
        >>> where_attributes_lie("otb100")
        'attributes of OTB-100 are not read'
    """
    row = get_layout(layout)
    base = "the dataset's folder" if root is None else str(root)
    if row.tags:
        return (
            f"{base} must hold the attributes of {row.title} in its sequences, as <ATTRIBUTE>.tag "
            "or .label with a number per frame"
        )
    if not row.attribute_folder:
        return f"attributes of {row.title} are not read"
    return (
        f"{base} must hold the attributes of {row.title} in {row.attribute_folder}, or it must be "
        f"beside it: <ATTRIBUTE>.txt for {row.attributes[0]}, {row.attributes[1]}, ... with a "
        "number per sequence of SequencesName.txt, or <sequence>.txt with a number per attribute"
    )


def unnamed_images(folder: Path, names: list[str], *, beside: Path | None = None) -> str:
    """Say that folders hold images whose modality no name tells, and which names would.

    Args:
        folder: the folder of a sequence.
        names: its folders that hold such images.
        beside: the folder whose modality is known.
    """
    known = f" beside {beside.name}" if beside is not None else ""
    row = LAYOUTS["folder"]
    return (
        f"{folder} holds images in {', '.join(names)}{known}, and no name says which modality they "
        f"are: name the folder of colour images rgb ({', '.join(row.rgb[1:])}) and the other one "
        f"tir ({', '.join(row.tir[1:])}), or give both folders, colour first"
    )
