import pytest

from rgbt_fusion.models.presets import list_models
from rgbt_fusion.weights.pretrained import create_model


def test_every_name_exists_in_every_size() -> None:
    promised = [
        *(
            "ostrack_vitb_256",
            "ostrack_vitb_384",
            "two_stream_vitb_256",
            "tpmri_vitb_256",
            "compensation_vitb_256",
        ),
        *("ainet_vitb_256", "ainet_vitb_384", "ainet_vitb_256_compact"),
        *("ainet_vitb_256_released", "ainet_vitb_384_released"),
        *("mutual_prompt_teacher_vitb_256", "one_stream_student_vitb_256"),
    ]
    for name in promised:
        assert name in list_models()
        if not name.endswith("released"):
            assert name.replace("vitb", "vits") in list_models()
            assert (
                name.replace("vitb_256", "tiny_128").replace("vitb_384", "tiny_128")
                in list_models()
            )


def test_create_model_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"name must be one of list_models\(\), got 'resnet'$"):
        create_model("resnet")
    with pytest.raises(
        TypeError,
        match=r"ostrack_tiny_128 has no option 'colour'\. Its options: modality; its settings: ",
    ):
        create_model("ostrack_tiny_128", colour="blue")
    with pytest.raises(
        ValueError,
        match="pretrained must be False for ostrack_tiny_128: weights come with ainet_tiny",
    ):
        create_model("ostrack_tiny_128", pretrained=True)


def test_what_is_misspelt_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(ValueError) as unknown:
        create_model("ainet_tiny")
    assert str(unknown.value) == (
        "name must be one of list_models(), got 'ainet_tiny'; "
        "did you mean 'ainet_tiny_128' or 'ainet_tiny_128_compact'?"
    )
    with pytest.raises(TypeError) as misspelt:
        create_model("ainet_tiny_128", dfn=None)
    assert str(misspelt.value) == (
        "ainet_tiny_128 has no option 'dfn'; did you mean 'dfm'? "
        "Its options: fusion_layers, dfm, ofm, order_predictor, order_gradient, ofm_tokens, "
        "inner_width, reliability, alignment; its settings: dim, depth, num_heads, template_size, "
        "search_size, stem, head_channels, drop_path, keep_ratio, attention, search_factor"
    )
    with pytest.raises(TypeError, match="has no option 'keep_ration'; did you mean 'keep_ratio'"):
        create_model("two_stream_tiny_128", keep_ration=0.5)


def test_overrides_reach_settings_and_options() -> None:
    model = create_model("ainet_tiny_128", dim=64, fusion_layers=1, keep_ratio=0.5)
    assert model.settings.dim == 64 and model.settings.keep_ratio == 0.5
    assert model.options["fusion_layers"] == [3]


def test_the_weights_in_the_box_carry_what_was_measured_for_them():
    settings = create_model("ainet_tiny_128", pretrained=True).tracking_settings
    assert settings is not None
    assert 0 < settings.hold_below < settings.lost_threshold
    assert settings.size_inertia > 0
    assert settings.confidence is not None
    assert create_model("ainet_tiny_128").tracking_settings is None
