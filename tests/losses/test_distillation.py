import math

import pytest
import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.candidate_elimination import CandidateElimination
from rgbt_fusion.losses.distillation import (
    FeatureDistillationLoss,
    HierarchicalDistillationLoss,
    ResponseDistillationLoss,
    concatenate_streams,
)
from rgbt_fusion.losses.localization import LocalizationLoss, gaussian_label

TEACHER = torch.logit(gaussian_label(torch.tensor([[0.5, 0.4, 0.4, 0.4]]), 12).clamp(1e-3, 0.95))
ZERO_MAP = torch.full_like(TEACHER, -40.0)


def minimise(loss: ResponseDistillationLoss) -> Tensor:
    """Return the student's logits after training them alone on ``loss``, from an undecided map."""
    student = torch.zeros_like(TEACHER).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.2)
    for _ in range(400):
        optimizer.zero_grad()
        loss(student, TEACHER).backward()
        optimizer.step()
    return student.detach()


def test_the_literal_response_loss_is_minimised_by_an_all_zero_map() -> None:
    literal = ResponseDistillationLoss(form="literal")
    assert literal(ZERO_MAP, TEACHER).item() == pytest.approx(0.0, abs=1e-12)
    assert (
        literal(TEACHER, TEACHER) > 0.01
    )  # agreeing with the teacher costs more than answering nothing
    assert minimise(literal).sigmoid().max() < 0.05


def test_our_response_loss_is_minimised_by_the_teachers_map() -> None:
    ours = ResponseDistillationLoss()
    assert ours(TEACHER, TEACHER).item() == 0.0
    assert ours(ZERO_MAP, TEACHER) > 0.1
    student = minimise(ours).sigmoid()
    assert student.argmax() == TEACHER.argmax()
    assert (student - TEACHER.sigmoid()).abs().max() < 0.1


def test_response_loss_by_hand() -> None:
    student, teacher, tau = 1.0, 3.0, 2.0
    p, q = (1 / (1 + math.exp(-x / tau)) for x in (student, teacher))
    entropy = -(q * math.log(p) + (1 - q) * math.log(1 - p))
    maps = torch.tensor([student]), torch.tensor([teacher])
    expected = tau**2 * (q - p) ** 2 * entropy  # sum q is below 1
    assert ResponseDistillationLoss()(*maps).item() == pytest.approx(expected, rel=1e-5)
    doubled = ResponseDistillationLoss()(*(x.repeat(4) for x in maps))
    assert doubled.item() == pytest.approx(expected / q, rel=1e-5)
    given = ResponseDistillationLoss()(*maps, normalizer=torch.tensor(4.0))
    assert given.item() == pytest.approx(expected / 4, rel=1e-5)
    p, q = (1 / (1 + math.exp(-x)) / tau for x in (student, teacher))
    literal = -((1 - q) ** 4) * p**2 * math.log(1 - p)
    assert ResponseDistillationLoss(form="literal")(*maps).item() == pytest.approx(
        literal, rel=1e-5
    )


@pytest.mark.parametrize("form", ["logits", "literal"])
def test_response_gradients_reach_the_student_alone(form) -> None:
    student = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    loss = ResponseDistillationLoss(form=form)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher.detach()), (student,))
    loss(student, teacher).backward()
    assert teacher.grad is None


def test_streams_are_laid_out_as_the_student_has_them() -> None:
    rgb, tir = torch.randn(2, 2, 7, 3).unbind(0)
    assert concatenate_streams(rgb, tir).equal(torch.cat((rgb, tir), dim=1))
    indices = torch.tensor([[0, 3, 4], [1, 2, 3]])
    surviving = concatenate_streams(rgb, tir, indices, template_length=2)
    for sample, stream in ((0, rgb), (1, rgb), (0, tir), (1, tir)):
        kept = [0, 1, *(2 + indices[sample]).tolist()]
        offset = 0 if stream is rgb else 5
        assert surviving[sample, offset : offset + 5].equal(stream[sample, kept])


def test_a_student_that_keeps_its_teachers_surviving_tokens_has_no_feature_loss() -> None:
    rgb, tir = torch.randn(2, 2, 10, 3).unbind(0)
    kept = CandidateElimination(keep_ratio=0.5)(rgb, torch.rand(2, 8))
    student = torch.cat(
        (kept.tokens, tir[:, :2], tir[:, 2:].gather(1, kept.indices[..., None].expand(-1, -1, 3))),
        1,
    )
    teacher = concatenate_streams(rgb, tir, kept.indices, template_length=2)
    loss = FeatureDistillationLoss(student_dim=3, teacher_dim=3, layers=(1,))
    assert loss([student], [teacher]).item() == 0.0


@pytest.mark.parametrize(
    ("layers", "numbers"),
    [
        ("even", (2, 4, 6, 8, 10, 12)),
        ("first_half", (1, 2, 3, 4, 5, 6)),
        ("last_half", (7, 8, 9, 10, 11, 12)),
        ("all", tuple(range(1, 13))),
        ((3, 11), (3, 11)),
    ],
)
def test_layer_sets_of_table_5_weighted_by_layer_number(layers, numbers: tuple[int, ...]) -> None:
    loss = FeatureDistillationLoss(student_dim=2, teacher_dim=2, layers=layers)
    assert loss.student_layers == loss.teacher_layers == tuple(number - 1 for number in numbers)
    # layer number n differs by 1 / n everywhere: n * (1 / n)^2 = 1 / n
    student = [torch.full((1, 3, 2), 1 / number) for number in numbers]
    found = loss(student, [torch.zeros(1, 3, 2)] * len(numbers))
    assert found.item() == pytest.approx(sum(1 / number for number in numbers), rel=1e-5)
    assert not list(loss.parameters())


@pytest.mark.parametrize(
    ("student_depth", "teacher_depth", "teacher_layers"),
    [(4, 12, (5, 11)), (12, 4, (0, 1, 1, 2, 3, 3)), (6, 12, (3, 7, 11)), (5, 12, (4, 9))],
)
def test_layers_of_unequal_depths(
    student_depth: int, teacher_depth: int, teacher_layers: tuple[int, ...]
) -> None:
    loss = FeatureDistillationLoss(student_depth=student_depth, teacher_depth=teacher_depth)
    assert loss.student_layers == tuple(range(1, student_depth, 2))
    assert loss.teacher_layers == teacher_layers


def test_unequal_widths_learn_a_projection() -> None:
    torch.manual_seed(0)
    loss = FeatureDistillationLoss(
        student_depth=2, teacher_depth=2, student_dim=3, teacher_dim=5
    ).double()
    student = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = (parameter.detach() for parameter in loss.parameters())
    expected = 2 * (student @ weight.T + bias - teacher).square().mean()
    torch.testing.assert_close(loss([student], [teacher]), expected)
    assert torch.autograd.gradcheck(lambda x: loss([x], [teacher.detach()]), (student,))
    loss([student], [teacher]).backward()
    assert teacher.grad is None
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_teacher_features_may_have_lower_precision() -> None:
    loss = FeatureDistillationLoss(student_depth=2, student_dim=3, teacher_dim=3)
    student = torch.randn(1, 4, 3)
    assert loss([student], [student.bfloat16()]).dtype == torch.float32
    assert loss([student.bfloat16()], [student.bfloat16()]).item() == 0.0


def distillation_inputs() -> dict[str, object]:
    return {
        "student_logits": torch.zeros_like(TEACHER),
        "teacher_logits": TEACHER,
        "student_features": [torch.zeros(1, 4, 6)] * 2,
        "teacher_features": [torch.ones(1, 4, 6)] * 2,
    }


def test_total_is_equation_21() -> None:
    feature = FeatureDistillationLoss(student_depth=4, student_dim=6, teacher_dim=6)
    loss = HierarchicalDistillationLoss(feature=feature)
    ground_truth = (torch.full_like(TEACHER, 0.3), *torch.rand(2, 1, 4))
    terms = loss(*ground_truth, **distillation_inputs())
    response = ResponseDistillationLoss()(torch.zeros_like(TEACHER), TEACHER)
    localization = LocalizationLoss()(*ground_truth)
    torch.testing.assert_close(terms[1:4], localization[1:])
    torch.testing.assert_close(terms.response, response)
    torch.testing.assert_close(terms.feature, torch.tensor(2.0 + 4.0))
    torch.testing.assert_close(
        terms.total,
        terms.focal + 2 * terms.giou + 5 * terms.l1 + 0.7 * response + 0.035 * (2.0 + 4.0),
    )


def test_a_weight_of_zero_needs_no_inputs() -> None:
    ground_truth = (torch.full_like(TEACHER, 0.3), *torch.rand(2, 1, 4))
    alone = HierarchicalDistillationLoss(response_weight=0.0, feature_weight=0.0)(*ground_truth)
    torch.testing.assert_close(alone.total, LocalizationLoss()(*ground_truth).total)
    assert (alone.response.item(), alone.feature.item()) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: FeatureDistillationLoss(layers="odd"),
            ValueError,
            "layers must be one of 'even'.* got 'odd'",
        ),  # type: ignore[arg-type]
        (
            lambda: FeatureDistillationLoss(layers=(4, 2)),
            ValueError,
            r"ascending layer numbers in \[1, 12\]",
        ),
        (
            lambda: FeatureDistillationLoss(layers=(0, 2)),
            ValueError,
            r"ascending layer numbers in \[1, 12\]",
        ),
        (lambda: FeatureDistillationLoss(layers=()), ValueError, r"at least one, got \(\)"),
        (lambda: FeatureDistillationLoss(student_depth=1), ValueError, "at least one, got 'even'"),
        (
            lambda: FeatureDistillationLoss(layers=(1, 2))([torch.zeros(1, 2, 768)], []),
            ValueError,
            r"student must hold one tensor for each of the layers \(1, 2\), got 1",
        ),
        (
            lambda: FeatureDistillationLoss(layers=(2,))(
                [torch.zeros(1, 2, 768)], [torch.zeros(1, 3, 768)]
            ),
            ShapeError,
            r"teacher for student layer 2 must have shape .*N = 2.* got \(1, 3, 768\)",
        ),
        (
            lambda: concatenate_streams(torch.zeros(1, 2, 3), torch.zeros(1, 3, 3)),
            ShapeError,
            r"tir must have the shape of rgb \(1, 2, 3\), got \(1, 3, 3\)",
        ),
        (
            lambda: concatenate_streams(*torch.zeros(2, 1, 4, 3), torch.zeros(1, 2)),
            TypeError,
            "indices must be int64, got torch.float32",
        ),
        (
            lambda: concatenate_streams(
                *torch.zeros(2, 1, 4, 3), torch.zeros(1, 2).long(), template_length=3
            ),
            ValueError,
            r"template_length must be in \[0, 2\], what 2 of 4 tokens leave, got 3",
        ),
        (
            lambda: ResponseDistillationLoss(temperature=0),
            ValueError,
            "temperature must be above 0, got 0",
        ),
        (
            lambda: ResponseDistillationLoss(form="probabilities"),
            ValueError,
            "form must be one of 'logits', 'literal'",
        ),  # type: ignore[arg-type]
        (
            lambda: ResponseDistillationLoss()(torch.zeros(2), torch.zeros(3)),
            ShapeError,
            r"teacher_logits must have the shape of student_logits \(2,\), got \(3,\)",
        ),
        (
            lambda: HierarchicalDistillationLoss()(
                torch.zeros(1, 1, 4, 4), torch.zeros(1, 4), torch.zeros(1, 4)
            ),
            ValueError,
            "student_logits must be given unless response_weight is 0, got None",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_compiled_equals_eager() -> None:
    feature = FeatureDistillationLoss(student_depth=4, student_dim=6, teacher_dim=6)
    loss = HierarchicalDistillationLoss(feature=feature)
    ground_truth = (torch.full_like(TEACHER, 0.3), *torch.rand(2, 1, 4))
    expected = loss(*ground_truth, **distillation_inputs())
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*ground_truth, **distillation_inputs()), expected)
    exported = torch.export.export(loss, ground_truth, distillation_inputs()).module()
    torch.testing.assert_close(exported(*ground_truth, **distillation_inputs()), expected)
