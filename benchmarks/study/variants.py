"""What the study trains: one row per variant, and the questions that pairs of rows answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rgbt_fusion.training.config import TrainingModality

__all__ = [
    "BACKBONE",
    "IMPERFECT_CAMERA_FUSIONS",
    "IMPERFECT_CAMERA_VARIANTS",
    "QUESTIONS",
    "SINGLE_MODALITIES",
    "VARIANTS",
    "Question",
    "Variant",
    "choose_variants",
]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One network of the study and how it is trained."""

    title: str
    model: str
    """The preset; every one has the same encoder and head."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    modality: TrainingModality = "both"
    """What it is shown, in training and when it is scored."""
    clip_length: int = 1
    """Search frames of a training sample: two for networks that remember the last frame."""
    teacher: str | None = None
    """The variant that it is distilled from."""
    distillation: Mapping[str, Any] = field(default_factory=dict)
    """What is distilled, where it is not the default."""
    ablation: str | None = None
    """Whose ablation it is a row of; None in the study proper."""

    def titled(self, *, aligned: bool) -> str:
        """Return the title, and whether the thermal frames are aligned."""
        return f"{self.title}, aligned" if aligned else self.title


BACKBONE = Variant(
    title="backbone",
    model="ostrack_tiny_128",
    overrides={"keep_ratio": 1.0},
    modality="either",
)
"""What every variant starts from: an encoder and a head that know no modality."""

_PROMPTER = "mutual_prompt_teacher_tiny_128"
_STUDENT = "one_stream_student_tiny_128"
_TPI = {"model": "tpmri_tiny_128", "clip_length": 2}
REACH = 3
"""The largest shift in cells that the alignment layer looks for: at x2 the cameras are up to 2.3
cells apart where the target is square."""

_WHOLE = {"keep_ratio": 1.0}
_CUT = {"keep_ratio": 0.7}

VARIANTS: dict[str, Variant] = {
    "rgb": Variant(
        title="RGB only",
        model="ostrack_tiny_128",
        overrides=_WHOLE | {"modality": "rgb"},
        modality="rgb",
    ),
    "tir": Variant(
        title="TIR only",
        model="ostrack_tiny_128",
        overrides=_WHOLE | {"modality": "tir"},
        modality="tir",
    ),
    "sum": Variant(title="plain sum", model="two_stream_tiny_128"),
    "dfm": Variant(title="DFM", model="ainet_tiny_128", overrides={"ofm": None}),
    "dfm_ofm": Variant(title="DFM + OFM, learned order", model="ainet_tiny_128"),
    "dfm_ofm_frozen": Variant(
        title="DFM + OFM, frozen order",
        model="ainet_tiny_128",
        overrides={"order_gradient": "none"},
    ),
    "dfm_ofm_fixed": Variant(
        title="DFM + OFM, no order", model="ainet_tiny_128", overrides={"order_predictor": None}
    ),
    "tpi": Variant(title="TPI", overrides=_WHOLE, **_TPI),
    "prompter": Variant(title="mutual prompter (the teacher)", model=_PROMPTER),
    "compensation": Variant(title="compensation", model="compensation_tiny_128"),
    "sum_ce": Variant(title="plain sum, elimination", model="two_stream_tiny_128", overrides=_CUT),
    "dfm_ofm_ce": Variant(title="DFM + OFM, elimination", model="ainet_tiny_128", overrides=_CUT),
    "student": Variant(title="one-stream student, alone", model=_STUDENT),
    "distilled": Variant(title="one-stream student, distilled", model=_STUDENT, teacher="prompter"),
    "distilled_ce": Variant(
        title="one-stream student, distilled, elimination",
        model=_STUDENT,
        overrides=_CUT,
        teacher="prompter",
    ),
    # AINet's table 3 and 4. Of four layers AINet-6 takes all, as AINet-12 does: both are "dfm_ofm".
    "ofm": Variant(
        title="OFM without DFM", model="ainet_tiny_128", overrides={"dfm": None}, ablation="AINet"
    ),
    "ainet_1": Variant(
        title="AINet-1", model="ainet_tiny_128", overrides={"fusion_layers": 1}, ablation="AINet"
    ),
    "ainet_3": Variant(
        title="AINet-3", model="ainet_tiny_128", overrides={"fusion_layers": 3}, ablation="AINet"
    ),
    "tpi_without_tmr": Variant(
        title="TPI without TMR", overrides=_WHOLE | {"tmr": None}, ablation="TPI", **_TPI
    ),
    "tpi_without_history": Variant(
        title="TPI, TMR without history",
        overrides=_WHOLE | {"history": False},
        ablation="TPI",
        **_TPI,
    ),
    "tpi_without_cmi": Variant(
        title="TPI without CMI", overrides=_WHOLE | {"cmi": None}, ablation="TPI", **_TPI
    ),
    "tpi_without_maf": Variant(
        title="TPI without MAF", overrides=_WHOLE | {"maf": None}, ablation="TPI", **_TPI
    ),
    "prompter_without_spatial": Variant(
        title="prompter without spatial attention",
        model=_PROMPTER,
        overrides={"spatial_attention": None},
        ablation="mutual prompter",
    ),
    "prompter_without_token": Variant(
        title="prompter without token attention",
        model=_PROMPTER,
        overrides={"token_attention": False},
        ablation="mutual prompter",
    ),
    "prompter_without_history": Variant(
        title="prompter without history",
        model=_PROMPTER,
        overrides={"history": False},
        ablation="mutual prompter",
    ),
    "distilled_response": Variant(
        title="response alone",
        model=_STUDENT,
        teacher="prompter",
        distillation={"feature_weight": 0.0},
        ablation="distillation",
    ),
    "distilled_feature": Variant(
        title="features alone",
        model=_STUDENT,
        teacher="prompter",
        distillation={"response_weight": 0.0},
        ablation="distillation",
    ),
    "distilled_first_half": Variant(
        title="both, features of the first half",
        model=_STUDENT,
        teacher="prompter",
        distillation={"layers": "first_half"},
        ablation="distillation",
    ),
    "distilled_last_half": Variant(
        title="both, features of the last half",
        model=_STUDENT,
        teacher="prompter",
        distillation={"layers": "last_half"},
        ablation="distillation",
    ),
    "distilled_all_layers": Variant(
        title="both, features of all layers",
        model=_STUDENT,
        teacher="prompter",
        distillation={"layers": "all"},
        ablation="distillation",
    ),
    "chain_cmc1": Variant(
        title="CMC1",
        model="compensation_tiny_128",
        overrides={"chain": ["cmc1"]},
        ablation="compensation",
    ),
    "chain_cmc_cmc": Variant(
        title="CMC + CMC",
        model="compensation_tiny_128",
        overrides={"chain": ["cmc", "cmc"]},
        ablation="compensation",
    ),
    "chain_cmc1_cmc": Variant(
        title="CMC1 + CMC",
        model="compensation_tiny_128",
        overrides={"chain": ["cmc1", "cmc"]},
        ablation="compensation",
    ),
    "chain_cmc_ce_cmc": Variant(
        title="CMC + CE + CMC",
        model="compensation_tiny_128",
        overrides={"chain": ["cmc", "ce", "cmc"]},
        ablation="compensation",
    ),
    "chain_cmc1_ce_cmc": Variant(
        title="CMC1 + CE + CMC",
        model="compensation_tiny_128",
        overrides={"chain": ["cmc1", "ce", "cmc"]},
        ablation="compensation",
    ),
    "rgb_ce": Variant(
        title="RGB only, elimination",
        model="ostrack_tiny_128",
        overrides=_CUT | {"modality": "rgb"},
        modality="rgb",
        ablation="compensation",
    ),
    "sum_alignment_layer": Variant(
        title="plain sum, alignment layer",
        model="two_stream_tiny_128",
        overrides={"alignment": REACH},
        ablation="alignment layer",
    ),
}
"""Every variant by name: the study proper, then the papers' own ablations."""


SINGLE_MODALITIES: tuple[str, ...] = ("rgb", "tir")
"""The variants that a fusion must beat: of the two, the one with the higher mean over the seeds."""

IMPERFECT_CAMERA_FUSIONS: tuple[str, ...] = ("sum", "dfm_ofm", "prompter")
"""The fusions of the study of imperfect cameras."""

IMPERFECT_CAMERA_VARIANTS: tuple[str, ...] = (
    *SINGLE_MODALITIES,
    *IMPERFECT_CAMERA_FUSIONS,
    "sum_alignment_layer",
)
"""What the study of imperfect cameras trains unless others are named."""


class Question(NamedTuple):
    """What a pair of variants answers."""

    text: str
    variant: str
    against: tuple[str, ...]
    """What it is compared with; of several, the one with the higher mean."""
    challenges: tuple[str, ...] | None = None
    """The challenges that count; None counts all that the study scores."""
    aligned: bool = False
    """Whether the variant is shown aligned thermal frames; what it is compared with never is."""


_FUSIONS = ("sum", "dfm", "dfm_ofm", "tpi", "prompter", "compensation", "distilled")

_WHERE: dict[str, tuple[str, ...] | None] = {
    "all challenges": None,
    "night": ("night",),
    "thermal crossover": ("thermal_crossover",),
}


def _against_single_modality(variant: str, where: str) -> Question:
    text = f"{VARIANTS[variant].title} against the better single modality, {where}"
    return Question(text, variant, SINGLE_MODALITIES, _WHERE[where])


def _aligned_against_single_modality(variant: str) -> Question:
    title = VARIANTS[variant].titled(aligned=True)
    text = f"{title}, against the better single modality, all challenges"
    return Question(text, variant, SINGLE_MODALITIES, aligned=True)


def _alignment_in(variant: str) -> Question:
    text = f"alignment in {VARIANTS[variant].title}, all challenges"
    return Question(text, variant, (variant,), aligned=True)


QUESTIONS = (
    *(_against_single_modality(name, "all challenges") for name in _FUSIONS),
    *(_against_single_modality(name, "night") for name in _FUSIONS),
    *(_against_single_modality(name, "thermal crossover") for name in _FUSIONS),
    Question("DFM against the plain sum", "dfm", ("sum",)),
    Question("OFM on top of DFM", "dfm_ofm", ("dfm",)),
    Question("DFM + OFM against the plain sum", "dfm_ofm", ("sum",)),
    Question("a learned order against a frozen one", "dfm_ofm", ("dfm_ofm_frozen",)),
    Question("a learned order against none", "dfm_ofm", ("dfm_ofm_fixed",)),
    Question("TPI against the plain sum", "tpi", ("sum",)),
    Question("the mutual prompter against the plain sum", "prompter", ("sum",)),
    Question("compensation against the plain sum", "compensation", ("sum",)),
    Question("elimination in the plain sum", "sum_ce", ("sum",)),
    Question("elimination in DFM + OFM", "dfm_ofm_ce", ("dfm_ofm",)),
    Question("the distilled student against the same alone", "distilled", ("student",)),
    Question("the distilled student against its teacher", "distilled", ("prompter",)),
    Question("elimination in the distilled student", "distilled_ce", ("distilled",)),
    *(_aligned_against_single_modality(name) for name in IMPERFECT_CAMERA_FUSIONS),
    *(_alignment_in(name) for name in IMPERFECT_CAMERA_FUSIONS),
    Question("the alignment layer in the plain sum", "sum_alignment_layer", ("sum",)),
    Question(
        "the alignment layer in the plain sum, misalignment x2",
        "sum_alignment_layer",
        ("sum",),
        ("misalignment_x2",),
    ),
)
"""What the study asks, in the order of the table."""


def choose_variants(names: list[str] | None = None, *, ablation: bool = False) -> list[str]:
    """Return the variants to train, teachers before those that they teach.

    Args:
        names: only these and their teachers; by default the study proper.
        ablation: also the ablations of the papers, where ``names`` is not given.

    Raises:
        ValueError: ``names`` holds an unknown name.

    Example:
        >>> from benchmarks.study.variants import choose_variants
        >>> choose_variants(["distilled"])
        ['prompter', 'distilled']
    """
    if names is None:
        return [name for name, variant in VARIANTS.items() if ablation or variant.ablation is None]
    for name in names:
        if name not in VARIANTS:
            raise ValueError(f"variants must be among {', '.join(VARIANTS)}, got {name!r}")
    teachers = {VARIANTS[name].teacher for name in names}
    return [name for name in VARIANTS if name in names or name in teachers]
