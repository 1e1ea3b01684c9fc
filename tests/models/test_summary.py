import pytest
import torch

from rgbt_fusion.models.presets import list_models
from rgbt_fusion.models.summary import summarise
from rgbt_fusion.weights.pretrained import create_model


@pytest.mark.parametrize("name", [name for name in list_models() if "tiny" in name])
def test_the_parts_are_the_whole(name: str) -> None:
    model = create_model(name)
    summary = summarise(model)
    assert model.training
    assert summary.parameters == sum(part.parameters for part in summary.components)
    assert summary.parameters == sum(p.numel() for p in model.parameters())
    assert {part.name: part.layers for part in summary.components}["backbone.blocks"] == 4
    assert summary.weight_bytes > 4 * summary.parameters
    assert summary.template_tokens == 16 and summary.search_tokens[0] == 64


def test_parameters_of_a_model_itself_are_a_part() -> None:
    parts = {
        part.name: part
        for part in summarise(create_model("one_stream_student_tiny_128")).components
    }
    assert "embeddings" not in parts
    model = create_model("one_stream_student_tiny_128", modality_embedding=True)
    parts = {part.name: part for part in summarise(model).components}
    assert parts["embeddings"].parameters == 2 * 128


def test_a_linear_layer_of_every_token_counts_each_of_them() -> None:
    one, two = (
        summarise(create_model("two_stream_tiny_128", depth=depth)).macs for depth in (1, 2)
    )
    tokens, dim = 2 * 80, 128
    # qkv, projection and the two layers of the MLP; attention of each stream over its 80 tokens
    assert two - one == tokens * dim * dim * 12 + 2 * (2 * 80 * 80 * dim)


def test_summaries_do_not_move_the_random_state() -> None:
    torch.manual_seed(3)
    model = create_model("ostrack_tiny_128", depth=1)
    before = torch.get_rng_state()
    summarise(model)
    assert torch.equal(torch.get_rng_state(), before)
