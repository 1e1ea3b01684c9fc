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
    with pytest.raises(
        ValueError, match=r"name must be one of 'ostrack_vitb_256', .*, got 'resnet'"
    ):
        create_model("resnet")
    with pytest.raises(
        TypeError,
        match=r"ostrack_tiny_128 takes the settings .*unexpected keyword argument 'colour'",
    ):
        create_model("ostrack_tiny_128", colour="blue")
    with pytest.raises(
        ValueError,
        match="pretrained must be False for ostrack_tiny_128: weights come with ainet_tiny",
    ):
        create_model("ostrack_tiny_128", pretrained=True)


def test_overrides_reach_settings_and_options() -> None:
    model = create_model("ainet_tiny_128", dim=64, fusion_layers=1, keep_ratio=0.5)
    assert model.settings.dim == 64 and model.settings.keep_ratio == 0.5
    assert model.options["fusion_layers"] == [3]
