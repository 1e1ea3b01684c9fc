import pytest
import torch

from benchmarks.suites.naive_trackers import (
    AttentionAsReleased,
    TwoStreamsInTurn,
    with_attention_as_released,
    written_naively,
)
from rgbt_fusion.benchmarking.permuted_copies import PermutedCopiesMamba
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.weights.pretrained import create_model


def step(model):
    generator = torch.Generator().manual_seed(0)
    template, search = (
        ImagePair(*torch.randn(2, 2, 3, size, size, generator=generator)) for size in (64, 128)
    )
    with torch.inference_mode():
        return model(template, search)


def built(name, **overrides):
    torch.manual_seed(0)
    return create_model(name, depth=2, **overrides).eval()


def test_the_released_attention_computes_the_same():
    before = step(built("ostrack_tiny_128", keep_ratio=1.0))
    model = with_attention_as_released(built("ostrack_tiny_128", keep_ratio=1.0))
    assert all(isinstance(block.attn, AttentionAsReleased) for block in model.backbone.blocks)
    torch.testing.assert_close(step(model).score_logits, before.score_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "two_stream_tiny_128",
        "ainet_tiny_128",
        "ainet_tiny_128_compact",
        "mutual_prompt_teacher_tiny_128",
        "one_stream_student_tiny_128",
    ],
)
def test_written_naively_a_tracker_computes_the_same(name):
    before = step(built(name))
    naive = written_naively(built(name)).eval()
    torch.testing.assert_close(step(naive).score_logits, before.score_logits, rtol=1e-4, atol=1e-5)


def test_what_is_written_naively_is_not_ours():
    assert isinstance(written_naively(built("two_stream_tiny_128")), TwoStreamsInTurn)
    scans = written_naively(built("ainet_tiny_128")).ofm.scans
    assert isinstance(scans, PermutedCopiesMamba)
    assert scans.backend == "reference"
