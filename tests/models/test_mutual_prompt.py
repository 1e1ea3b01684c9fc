from typing import Any

import pytest
import torch

from model_material import images, tiny
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.mutual_prompt import MutualPromptTeacher
from rgbt_fusion.weights.checkpoints import load_checkpoint, save_checkpoint
from rgbt_fusion.weights.pretrained import create_model


def test_prompts_are_made_and_added_before_every_block() -> None:
    model = tiny("mutual_prompt_teacher_tiny_128").double()
    assert isinstance(model, MutualPromptTeacher) and model.first_prompter is not None
    template, search = images(model)
    tokens = model.embed_two_streams(model.embed_template(template), search)
    prompts = model.first_prompter(*tokens.chunk(2))
    for number, prompter in enumerate(model.prompters):
        prompts = prompter(*tokens.chunk(2), prompts)
        block = model.backbone.blocks[number]
        tokens = torch.cat(
            [
                block.transform(block.attend(x + p))
                for x, p in zip(tokens.chunk(2), prompts, strict=True)
            ]
        )
    rgb, tir = model.backbone.norm(tokens[:, 16:]).chunk(2)
    expected = torch.cat((rgb, tir), dim=-1) @ model.reduce.weight.T + model.reduce.bias
    torch.testing.assert_close(model.encode(template, search).features, expected)


def test_there_are_depth_plus_one_prompters_and_none_first_without_history() -> None:
    prompters = [
        module
        for module in tiny("mutual_prompt_teacher_tiny_128").modules()
        if "own" in dict(module.named_children())
    ]
    assert len(prompters) == 5
    assert "first_prompter" not in dict(
        tiny("mutual_prompt_teacher_tiny_128", history=False).named_children()
    )


@pytest.mark.parametrize(
    "options",
    [
        {"history": False},
        {"token_attention": False},
        {"spatial_attention": None},
        {"gate": "none"},
        {"form": "linear"},
        {"spatial_attention": "length_free", "keep_ratio": 0.5},
    ],
)
def test_every_ablation_trains_every_parameter(options: dict[str, Any]) -> None:
    model = tiny("mutual_prompt_teacher_tiny_128", **options).train()
    out = model(*images(model))
    (out.score_map.sum() + out.size_map.sum() + out.offset_map.sum()).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_elimination_with_the_literal_prompter_is_refused() -> None:
    model = create_model("mutual_prompt_teacher_tiny_128", keep_ratio=0.7).eval()
    with pytest.raises(
        ValueError, match=r"keep_ratio must be 1 with spatial_attention='literal'.*'length_free'"
    ):
        model(*images(model))


@pytest.mark.parametrize("keep_ratio", [1.0, 0.5])
def test_a_student_of_equal_images_from_a_single_stream_file_gives_its_result(
    tmp_path, keep_ratio: float
) -> None:
    single = tiny("ostrack_tiny_128", keep_ratio=keep_ratio).double()
    student = create_model("one_stream_student_tiny_128", keep_ratio=keep_ratio).double().eval()
    save_checkpoint(single, tmp_path / "single.safetensors")
    report = load_checkpoint(student, tmp_path / "single.safetensors")
    assert report.missing == ("reduce.weight", "reduce.bias")
    template, search = images(single)
    twice = student(ImagePair(template.rgb, template.rgb), ImagePair(search.rgb, search.rgb))
    # doubled keys change no softmax, and the reduction starts as the mean
    torch.testing.assert_close(twice.score_map, single(template, search).score_map)


def test_the_student_reads_both_modalities_and_tells_them_apart_only_if_asked() -> None:
    plain, told = (
        tiny("one_stream_student_tiny_128"),
        tiny("one_stream_student_tiny_128", modality_embedding=True),
    )
    template, search = images(plain)
    tokens = plain.encode(template, search, layers=(3,)).layers[0]
    swapped = plain.encode(
        ImagePair(*template[::-1]), ImagePair(*search[::-1]), layers=(3,)
    ).layers[0]
    assert tokens.tir is not None and swapped.tir is not None
    torch.testing.assert_close(tokens.rgb, swapped.tir)
    a = told.encode(template, search, layers=(3,)).layers[0]
    b = told.encode(ImagePair(*template[::-1]), ImagePair(*search[::-1]), layers=(3,)).layers[0]
    assert b.tir is not None and not torch.allclose(a.rgb, b.tir, atol=1e-3)


def test_the_student_may_eliminate() -> None:
    model = tiny("one_stream_student_tiny_128", keep_ratio=0.5)
    encoding = model.encode(*images(model), layers=range(4))
    assert [layer.rgb.shape[1] for layer in encoding.layers] == [80, 48, 32, 24]
    assert encoding.indices.shape == (2, 8)
