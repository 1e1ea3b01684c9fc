"""Distillation: any pair of models, a teacher that is asked once and never trained."""

import pytest
import torch
from safetensors.torch import load_file

from one_training import PLAIN_DATA, SMALL
from rgbt_fusion.models.interface import LayerTokens
from rgbt_fusion.training import DistillConfig, config_from_table, distill
from rgbt_fusion.training.checkpoints import read_checkpoint
from rgbt_fusion.training.distillation import DistillationObjective, match_tokens
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.samples import Sampler, open_clips
from rgbt_fusion.weights.checkpoints import load_model, save_checkpoint
from rgbt_fusion.weights.pretrained import create_model

CPU, ALONE = torch.device("cpu"), Processes(0, 1)
KINDS = (
    "ostrack",
    "two_stream",
    "ainet",
    "tpmri",
    "mutual_prompt_teacher",
    "one_stream_student",
    "compensation",
)
DEEPER = SMALL | {"dim": 32, "depth": 2, "num_heads": 2}


def config(**changes) -> DistillConfig:
    table = {
        "model": "one_stream_student_tiny_128",
        "overrides": SMALL | {"depth": 2},
        "steps": 2,
        "batch_size": 2,
        "log_every": 1,
        "data": PLAIN_DATA,
    }
    return config_from_table(DistillConfig, table | changes)


def batch_of(settings: DistillConfig):
    return Sampler(settings, open_clips(settings, "synthetic"), 32, 64, 4.0).batch(0, 0, 2)


@pytest.mark.parametrize("student", KINDS)
@pytest.mark.parametrize("teacher", ["ainet", "compensation", "tpmri"])
def test_any_model_teaches_any_other(student, teacher):
    settings = config(clip_length=2)
    options = {"chain": ("cmc", "ce", "cmc")} if teacher == "compensation" else {}
    model, master = (
        create_model(f"{student}_tiny_128", **SMALL),
        create_model(f"{teacher}_tiny_128", **DEEPER, **options),
    )
    settings = config(layers="all", clip_length=2)
    objective = DistillationObjective(model.train(), master, settings, ALONE, CPU)
    terms = objective(batch_of(settings), 0.7 if student in ("ostrack", "tpmri") else None)
    terms["loss"].backward()
    assert terms["feature"] > 0
    assert terms["response"] > 0
    assert all(parameter.grad is None for parameter in master.parameters())
    learnt = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert {"backbone.blocks.0.attn.qkv.weight", "box_head.conv5_ctr.weight"} <= set(learnt)
    assert not [name for name, _ in objective.named_parameters() if "teacher" in name]


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    torch.manual_seed(0)
    master = create_model("two_stream_tiny_128", **(SMALL | {"drop_path": 0.0}))
    settings = config(layers="all")
    objective = DistillationObjective(master, master, settings, ALONE, CPU).eval()
    terms = objective(batch_of(settings))
    assert terms["feature"] == 0
    assert terms["response"] == 0
    assert torch.allclose(terms["loss"], terms["focal"] + 2 * terms["giou"] + 5 * terms["l1"])


def tokens(places: list[int], *, streams: int, channels: int = 2, seed: int = 0) -> LayerTokens:
    generator = torch.Generator().manual_seed(seed)
    rgb, tir = torch.randn(2, 1, 1 + len(places), channels, generator=generator)
    return LayerTokens(rgb, tir if streams == 2 else None, torch.tensor([places]))


def test_tokens_meet_at_their_places():
    student, teacher = tokens([0, 2], streams=2), tokens([0, 1, 2, 3], streams=2, seed=1)
    ours, theirs = match_tokens(student, teacher, 1, 4)
    assert torch.equal(ours, torch.cat((student.rgb, student.tir), dim=1))
    expected = [teacher.rgb[:, [0, 1, 3]], teacher.tir[:, [0, 1, 3]]]
    assert torch.equal(theirs, torch.cat(expected, dim=1))


def test_one_stream_learns_from_the_mean_of_two():
    student, teacher = tokens([0, 1], streams=1), tokens([0, 1], streams=2, seed=1)
    ours, theirs = match_tokens(student, teacher, 1, 2)
    assert torch.equal(ours, student.rgb)
    assert torch.equal(theirs, (teacher.rgb + teacher.tir) / 2)


def test_two_streams_learn_from_one_twice():
    student, teacher = tokens([0, 1], streams=2), tokens([0, 1], streams=1, seed=1)
    _, theirs = match_tokens(student, teacher, 1, 2)
    assert torch.equal(theirs, torch.cat((teacher.rgb, teacher.rgb), dim=1))


def test_what_the_teacher_dropped_is_not_compared():
    student, teacher = tokens([0, 1, 3], streams=1), tokens([1, 2], streams=1, seed=1)
    ours, theirs = match_tokens(student, teacher, 1, 4)
    assert torch.equal(ours[:, :1], student.rgb[:, :1])
    assert torch.equal(theirs[0, 2], teacher.rgb[0, 1])
    for dropped in (1, 3):
        assert not ours[0, dropped].any()
        assert not theirs[0, dropped].any()


@pytest.mark.parametrize(
    ("changes", "absent"),
    [({"feature_weight": 0.0}, "feature"), ({"response_weight": 0.0}, "response")],
)
def test_a_term_can_be_left_out(tmp_path, changes, absent):
    master = create_model("mutual_prompt_teacher_tiny_128", **DEEPER)
    result = distill(config(**changes), teacher=master, out=tmp_path, device="cpu")
    assert result.values[absent] == 0
    assert result.values["loss"] > 0


def test_a_distillation_goes_on_where_it_was(tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    save_checkpoint(create_model("mutual_prompt_teacher_tiny_128", **DEEPER), teacher)
    settings = config(steps=4, checkpoint_every=2)
    whole = distill(settings, teacher=teacher, out=tmp_path / "whole", device="cpu")

    class Interrupted(Exception):
        pass

    def interrupt(progress):
        if progress.step == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        distill(
            settings, teacher=teacher, out=tmp_path / "cut", device="cpu", on_progress=interrupt
        )
    assert read_checkpoint(tmp_path / "cut" / "checkpoint.pt")["step"] == 2
    cut = distill(settings, teacher=teacher, out=tmp_path / "cut", device="cpu")
    one, other = load_file(whole.model), load_file(cut.model)
    for name, value in one.items():
        assert torch.allclose(other[name], value, atol=1e-6), name
    state = read_checkpoint(tmp_path / "cut" / "checkpoint.pt")["objective"]
    assert any("projections" in name for name in state), (
        "the widths differ: what joins them is trained and saved"
    )
    assert not any("teacher" in name for name in state)


def test_a_teacher_of_lower_precision_answers_nearly_the_same():
    torch.manual_seed(0)
    model, master = (
        create_model(f"{name}_tiny_128", **SMALL)
        for name in ("one_stream_student", "mutual_prompt_teacher")
    )
    terms = {}
    for precision in ("float32", "bfloat16"):
        settings = config(teacher_precision=precision, layers="all")
        terms[precision] = DistillationObjective(model, master, settings, ALONE, CPU).eval()(
            batch_of(settings)
        )
    assert terms["bfloat16"]["feature"].item() == pytest.approx(
        terms["float32"]["feature"].item(), rel=0.05
    )
    assert terms["bfloat16"]["feature"].item() != terms["float32"]["feature"].item()


def test_a_teacher_of_other_crops_is_refused(tmp_path):
    master = create_model("ainet_tiny_128", **(SMALL | {"search_size": 96}))
    with pytest.raises(
        ValueError, match="teacher must take crops as the student does, search_size = 64, got 96"
    ):
        distill(config(), teacher=master, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "odd"}, "layers must be one of"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"teacher_precision": "int8"}, "teacher_precision must be one of"),
        ({"response_form": "focal"}, "response_form must be one of"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_distillation_is_validated_like_a_training(tmp_path):
    settings = config(
        validation={"every": 2, "sequences": 1, "frames": 3}, activation_checkpointing=True
    )
    teacher = create_model("mutual_prompt_teacher_tiny_128", **SMALL)
    result = distill(settings, teacher=teacher, out=tmp_path, device="cpu")
    assert result.best == tmp_path / "best.safetensors"
    assert result.success is not None
    assert load_model(result.best).configuration["model"] == "OneStreamStudent"
