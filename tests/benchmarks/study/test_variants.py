"""Every row of the study can be built, differs from the others, and starts from the backbone."""

import json

import pytest

from benchmarks.study.variants import (
    BACKBONE,
    IMPERFECT_CAMERA_FUSIONS,
    IMPERFECT_CAMERA_VARIANTS,
    QUESTIONS,
    VARIANTS,
    choose_variants,
)
from rgbt_fusion.weights.checkpoints import load_checkpoint, save_checkpoint
from rgbt_fusion.weights.pretrained import create_model


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "backbone.safetensors"
    save_checkpoint(create_model(BACKBONE.model, **BACKBONE.overrides), path)
    return path


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_starts_from_the_backbone(name, backbone):
    variant = VARIANTS[name]
    model = create_model(variant.model, **variant.overrides)
    report = load_checkpoint(model, backbone, minimum_share=0.5)
    # nothing of the backbone is wasted but what a network does not have
    assert not report.unexpected
    assert model.settings.dim == 128
    assert (model.settings.keep_ratio < 1) == name.endswith("_ce")


def test_no_two_variants_are_the_same():
    rows = [
        json.dumps(
            (
                one.model,
                sorted(one.overrides.items()),
                one.modality,
                one.teacher,
                sorted(one.distillation.items()),
            )
        )
        for one in VARIANTS.values()
    ]
    assert len(set(rows)) == len(rows)


def test_questions_are_about_variants():
    for question in QUESTIONS:
        assert {question.variant, *question.against} <= VARIANTS.keys()
        # a variant is compared with itself only to say what alignment does
        assert question.variant not in question.against or question.aligned


def test_choosing():
    proper = choose_variants()
    assert "dfm_ofm" in proper
    assert "ainet_1" not in proper
    assert choose_variants(ablation=True) == list(VARIANTS)
    assert choose_variants(["distilled", "sum"]) == ["sum", "prompter", "distilled"]
    assert choose_variants(list(IMPERFECT_CAMERA_VARIANTS)) == list(IMPERFECT_CAMERA_VARIANTS)
    assert {VARIANTS[name].modality for name in IMPERFECT_CAMERA_FUSIONS} == {"both"}
    with pytest.raises(ValueError, match=r"variants must be among rgb, .*, got 'magic'"):
        choose_variants(["magic"])
    names = list(VARIANTS)
    for name, variant in VARIANTS.items():
        assert variant.teacher is None or names.index(variant.teacher) < names.index(name)
