"""Configs: what is wrong is refused by name, what is right survives the way through plain
values."""

import json
from dataclasses import fields

import pytest

from rgbt_fusion.models.presets import list_models
from rgbt_fusion.training import (
    DataConfig,
    DistillConfig,
    OptimiserConfig,
    TrainConfig,
    list_recipes,
    read_config,
)
from rgbt_fusion.training.config import config_from_table, config_to_table, parse_toml, read_table

FAMILIES = (
    "ainet",
    "tpmri",
    "mutual_prompt_teacher",
    "one_stream_student",
    "compensation",
    "two_stream",
    "ostrack",
)


def from_toml(text: str) -> TrainConfig:
    return config_from_table(TrainConfig, parse_toml(text, name="recipe.toml"))


def test_a_config_survives_the_way_through_plain_values():
    config = TrainConfig(
        model="ainet_tiny_128",
        overrides={"depth": 2, "fusion_layers": [0, 1]},
        frozen=("backbone.",),
        optimiser=OptimiserConfig(learning_rate=3e-4),
    )
    table = json.loads(json.dumps(config_to_table(config)))
    assert config_from_table(TrainConfig, table) == config


def test_a_distillation_is_a_training_with_more_settings():
    table = {"model": "one_stream_student_tiny_128", "steps": 7, "layers": "all"}
    config = config_from_table(DistillConfig, table)
    assert (config.steps, config.layers, config.feature_weight) == (7, "all", 0.035)
    with pytest.raises(ValueError, match="unknown key layers; known are model, "):
        config_from_table(TrainConfig, table)


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_can_be_read(name):
    config = read_config(name)
    assert config.model in list_models()
    assert name.startswith(config.model)
    # a student's recipe serves its distillation, too
    config_from_table(DistillConfig, read_table(name))


def test_every_model_has_its_recipes():
    names = list_recipes()
    for family in FAMILIES:
        for data in ("lasher", "vtuav"):
            assert any(name.startswith(family) and name.endswith(data) for name in names), (
                family,
                data,
            )
    for family in ("mutual_prompt_teacher", "one_stream_student"):
        for data in ("depthtrack", "visevent"):
            assert f"{family}_vitb_256_{data}" in names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 3", "model must be given"),
        ("model = 'nonsense'", "model must be one of .*, got 'nonsense'"),
        ("model = 'ainet_tiny_128'\nstep = 3", "unknown key step; known are model, "),
        (
            "model = 'ainet_tiny_128'\n[data]\nroot = 'x'",
            "unknown key data.root; known are layout, ",
        ),
        ("model = 'ainet_tiny_128'\nsteps = '3'", "steps must be a whole number, got '3'"),
        ("model = 'ainet_tiny_128'\nsteps = 3.5", "steps must be a whole number, got 3.5"),
        ("model = 'ainet_tiny_128'\nsteps = true", "steps must be a whole number, got True"),
        ("model = 'ainet_tiny_128'\nsteps = 0", "steps must be at least 1, got 0"),
        (
            "model = 'ainet_tiny_128'\nseed = -1",
            "seed must be a whole number of at least 0, got -1",
        ),
        (
            "model = 'ainet_tiny_128'\nfrozen = 'backbone.'",
            "frozen must be a list, got 'backbone.'",
        ),
        ("model = 'ainet_tiny_128'\nfrozen = [3]", r"frozen\[0\] must be a text, got 3"),
        ("model = 'ainet_tiny_128'\ndata = 3", "data must be a table, got 3"),
        ("model = 'ainet_tiny_128'\noverrides = 3", "overrides must be a table, got 3"),
        ("model = 'ainet_tiny_128'\nmodality = 'radar'", "modality must be one of .*, got 'radar'"),
        ("model = 'ainet_tiny_128'\nprecision = 'int8'", "precision must be one of .*, got 'int8'"),
        ("model = 'ainet_tiny_128'\nstart_share = 1.5", r"start_share must be .*1.5"),
        (
            "model = 'ainet_tiny_128'\n[data]\nlayout = 'coco'",
            "data.layout must be one of .*, got 'coco'",
        ),
        (
            "model = 'ainet_tiny_128'\n[data]\nchallenges = ['rain']",
            "data.challenges must be one of .*, got 'rain'",
        ),
        (
            "model = 'ainet_tiny_128'\n[data]\nchallenges = []",
            "data.challenges must name at least one challenge",
        ),
        (
            "model = 'ainet_tiny_128'\n[data]\nworkers = -1",
            "data.workers must be a whole number of at least 0, got -1",
        ),
        ("model = 'ainet_tiny_128'\n[augmentation]\nflip = 2", r"augmentation.flip must be .*2"),
        (
            "model = 'ainet_tiny_128'\n[optimiser]\nlearning_rate = -1.0",
            r"optimiser.learning_rate must be .*-1",
        ),
        (
            "model = 'ainet_tiny_128'\n[optimiser]\nlearning_rate = nan",
            r"optimiser.learning_rate must be .*nan",
        ),
        (
            "model = 'ainet_tiny_128'\n[optimiser]\nschedule = 'stairs'",
            "optimiser.schedule must be one of",
        ),
        ("model = 'ainet_tiny_128'\n[loss]\nl1_weight = -5", r"loss.l1_weight must be .*-5"),
    ],
)
def test_a_wrong_value_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):
        from_toml(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "steps = 10\n[optimiser]\nwarmup_steps = 10",
            "optimiser.warmup_steps must be below steps = 10, got 10",
        ),
        (
            "elimination_schedule = [0.5, 0.2]",
            r"elimination_schedule must be two shares in order, .* got \[0.5, 0.2\]",
        ),
        ("elimination_schedule = [0.5]", "elimination_schedule must be two shares in order"),
        (
            "modality = 'rgb'\n[augmentation]\nmissing = 0.1",
            "augmentation.missing must be 0 where only one modality is shown, "
            "modality = 'rgb', got 0.1",
        ),
    ],
)
def test_contradictions_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        from_toml("model = 'ainet_tiny_128'\n" + text)


def test_a_distillation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="response_weight and feature_weight must not both be 0"):
        DistillConfig(model="ostrack_tiny_128", response_weight=0.0, feature_weight=0.0)


def test_a_file_is_read_as_a_recipe_is(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("model = 'ainet_tiny_128'\n[optimiser]\nlearning_rate = 1\n")
    assert read_config(file).optimiser.learning_rate == 1.0
    file.write_text("model = ")
    with pytest.raises(ValueError, match=r"mine.toml must be TOML: Invalid value"):
        read_config(file)


def test_what_is_not_there_is_named_with_what_is(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"config must be a file or one of the recipes .*ainet_tiny_128_synthetic",
    ):
        read_config(tmp_path / "absent.toml")


def test_a_preset_in_place_of_a_recipe_says_where_it_goes():
    with pytest.raises(
        FileNotFoundError,
        match=r"got 'tpmri_tiny_128', which is a preset: name a recipe, and add --set model=tpmri_",
    ):
        read_config("tpmri_tiny_128")


def test_every_setting_of_the_data_has_a_default():
    assert all(field.default is not None for field in fields(DataConfig))
