"""The form of a network for inference answers as the network does, whatever becomes of it."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rgbt_fusion import AINet, ImagePair, ModelOutput, TrackingNetwork, create_model
from rgbt_fusion.models.head import CenterHead
from rgbt_fusion.models.inference import FoldedHead, InferenceForm, inference_form

SMALL = {"dim": 32, "depth": 2, "num_heads": 2, "template_size": 32, "search_size": 64}


def small(name: str = "ainet_tiny_128") -> TrackingNetwork:
    """Return a small network whose norms have something to fold."""
    torch.manual_seed(0)
    network = create_model(name, **SMALL)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.get_buffer("running_mean"))
            nn.init.uniform_(module.get_buffer("running_var"), 0.2, 3.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return network.eval()


def answer(network: nn.Module, dtype: torch.dtype = torch.float32, rows: int = 2) -> ModelOutput:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, rows, 3, 96, 96, generator=generator, dtype=torch.float64).to(dtype)
    template = ImagePair(images[0, :, :, :32, :32], images[1, :, :, :32, :32])
    search = ImagePair(images[0, :, :, 32:, 32:], images[1, :, :, 32:, 32:])
    with torch.inference_mode():
        return network(template, search)


def maps(output: ModelOutput) -> Tensor:
    return torch.cat((output.score_logits, output.size_map, output.offset_map), dim=1)


def assert_same_answers(
    form: InferenceForm, network: TrackingNetwork, dtype: torch.dtype = torch.float32
) -> None:
    run = form.current()
    assert isinstance(run.box_head, FoldedHead)
    ours, theirs = maps(answer(run, dtype)), maps(answer(network, dtype))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize(
    "name",
    [
        "ainet_tiny_128",
        "ostrack_tiny_128",
        "two_stream_tiny_128",
        "tpmri_tiny_128",
        "mutual_prompt_teacher_tiny_128",
        "one_stream_student_tiny_128",
        "compensation_tiny_128",
    ],
)
def test_every_network_answers_alike(name: str) -> None:
    network = small(name)
    form = inference_form(network)
    assert form is not None
    assert_same_answers(form, network)
    for ours, theirs in zip(answer(form.current()), answer(network), strict=True):
        if isinstance(ours, Tensor):
            assert ours.shape == theirs.shape
            assert ours.stride() == theirs.stride()


def add_to_a_weight(network: TrackingNetwork) -> None:
    with torch.no_grad():
        network.get_parameter("box_head.conv2_size.0.weight").add_(0.1)


def optimise(network: TrackingNetwork) -> None:
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()


def load(network: TrackingNetwork) -> None:
    state = {name: value * 1.1 for name, value in network.state_dict().items()}
    network.load_state_dict(state)


def load_by_assignment(network: TrackingNetwork) -> None:
    state = {name: value * 1.1 for name, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)


def train_a_step(network: TrackingNetwork) -> None:
    network.box_head.train()
    network.box_head(torch.randn(4, 16, 32) * 9)
    network.box_head.eval()


def put_other_memory_into_a_parameter(network: TrackingNetwork) -> None:
    parameter = network.get_parameter("box_head.conv4_offset.0.weight")
    parameter.data = parameter.data + 0.5


def put_another_parameter(network: TrackingNetwork) -> None:
    convolution = network.get_submodule("box_head.conv3_offset.0")
    convolution.bias = nn.Parameter(torch.randn(convolution.get_parameter("bias").shape))


def put_another_head(network: TrackingNetwork) -> None:
    network.box_head = CenterHead(32, channels=16, grid=4).eval()


def put_other_blocks(network: TrackingNetwork) -> None:
    network.backbone.blocks = copy.deepcopy(network.backbone.blocks[::-1])


def change_the_last_bias(network: TrackingNetwork) -> None:
    with torch.no_grad():
        network.get_parameter("box_head.conv5_ctr.bias").add_(1.0)


@pytest.mark.parametrize(
    "change",
    [
        add_to_a_weight,
        optimise,
        load,
        load_by_assignment,
        train_a_step,
        put_other_memory_into_a_parameter,
        put_another_parameter,
        put_another_head,
        put_other_blocks,
        change_the_last_bias,
    ],
)
def test_a_change_of_the_network_is_seen(change: Callable[[TrackingNetwork], None]) -> None:
    network = small()
    form = InferenceForm(network)
    before = maps(answer(form.current()))
    change(network)
    assert not torch.allclose(maps(answer(network)), before, rtol=1e-2, atol=1e-2)
    assert_same_answers(form, network)


def test_a_new_dtype_is_seen() -> None:
    network = small()
    form = InferenceForm(network)
    answer(form.current())
    network.double()
    assert_same_answers(form, network, torch.float64)


def test_an_attribute_of_the_network_is_seen() -> None:
    network = small()
    assert isinstance(network, AINet)
    form = InferenceForm(network)
    answer(form.current())
    network.fusion_layers = (1,)
    network.skipped = 0
    assert vars(form.current())["skipped"] == 0
    assert vars(form.current())["fusion_layers"] == (1,)


def test_a_change_that_leaves_no_trace_is_seen_after_refresh() -> None:
    network = small()
    form = InferenceForm(network)
    form.current()
    network.get_parameter("box_head.conv1_ctr.0.weight").data.mul_(2)
    form.refresh()
    assert_same_answers(form, network)
    with torch.inference_mode():
        network.get_parameter("box_head.conv1_ctr.1.bias").add_(1.0)
        form.refresh()
        form.current()
    assert_same_answers(form, network)
    network.train()
    form.refresh()
    assert form.current() is network


def test_what_was_compiled_stays_valid_when_weights_change() -> None:
    network = small()
    form = InferenceForm(network)
    run = form.current()
    tensors = dict(run.box_head.named_buffers())
    add_to_a_weight(network)
    assert form.current() is run
    for name, tensor in run.box_head.named_buffers():
        assert tensor is tensors[name]


def test_the_network_itself_runs_where_a_fold_would_differ() -> None:
    network = small()
    form = InferenceForm(network)
    assert form.current() is not network
    network.train()
    assert form.current() is network
    network.eval()
    assert form.current() is not network

    handle = network.box_head.register_forward_hook(lambda *_: None)
    assert form.current() is network
    handle.remove()
    inner = network.get_submodule("box_head.conv1_ctr.1")
    handle = inner.register_forward_pre_hook(lambda *_: None)
    assert form.current() is network
    handle.remove()
    assert form.current() is not network

    head = network.box_head
    for other in (nn.Identity(), nn.GroupNorm(2, 4)):
        network.box_head = copy.deepcopy(head)
        network.box_head.get_submodule("conv3_size")[1] = other.eval()
        assert form.current() is network
    network.box_head = head
    assert form.current() is not network

    class OwnHead(CenterHead):
        pass

    network.box_head = OwnHead(32, channels=16, grid=4).eval()
    assert form.current() is network


def test_a_head_that_cannot_be_folded_is_refused() -> None:
    with pytest.raises(ValueError, match="head must be a CenterHead in evaluation mode"):
        FoldedHead(CenterHead(32, channels=16, grid=4))


def test_hooks_on_all_other_parts_run() -> None:
    network = small()
    seen = []
    form = InferenceForm(network)
    form.current()
    network.backbone.blocks[0].register_forward_hook(lambda *_: seen.append("block"))
    network.register_forward_hook(lambda *_: seen.append("network"))
    answer(form.current())
    assert seen == ["block", "network"]


def test_a_copy_follows_its_own_network() -> None:
    network = small()
    form = InferenceForm(network)
    form.current()
    twin, twin_form = copy.deepcopy((network, form))
    add_to_a_weight(twin)
    assert_same_answers(twin_form, twin)
    assert_same_answers(form, network)


def test_the_network_keeps_its_parameters_and_names() -> None:
    network = small()
    names = list(network.state_dict())
    form = InferenceForm(network)
    answer(form.current())
    assert list(network.state_dict()) == names
    assert isinstance(network.box_head, CenterHead)


def test_a_network_from_elsewhere_has_no_form() -> None:
    class Elsewhere(AINet):
        pass

    assert inference_form(Elsewhere(small().settings)) is None
    assert inference_form(lambda *_: None) is None


def scan_parameters(network: TrackingNetwork) -> list[Tensor]:
    """Return parameters that the Mambas make something of."""
    names = ("dfm.0.mamba.A_log", "dfm.1.mamba.conv1d.weight", "ofm.scans.A_log", "ofm.scans.D")
    return [network.get_parameter(name) for name in names]


def kept(network: TrackingNetwork) -> list[Tensor]:
    """Return all tensors that a form keeps for the Mambas."""
    return [tensor for made in network.prepared.values() for tensor in made]


def add_to_the_scans(network: TrackingNetwork) -> None:
    with torch.no_grad():
        for parameter in scan_parameters(network):
            parameter.add_(0.5)


def exchange_a_mamba(network: TrackingNetwork) -> None:
    add_to_the_scans(copied := copy.deepcopy(network))
    network.get_submodule("dfm.0").mamba = copied.get_submodule("dfm.0.mamba")


@pytest.mark.parametrize(
    "change",
    [
        add_to_the_scans,
        optimise,
        load,
        load_by_assignment,
        exchange_a_mamba,
        lambda network: network.half().float(),
        lambda network: network.ofm.scans.A_log.data.mul_(2),
    ],
)
def test_what_the_mambas_make_of_their_parameters_follows_them(change) -> None:
    network = small()
    form = InferenceForm(network)
    add_to_the_scans(network)  # values that no rounding keeps
    assert len(form.current().prepared) == 3
    assert not network.prepared
    answer(form.current())
    change(network)
    form.refresh()
    assert_same_answers(form, network)
    for layer, made in form.current().prepared.items():
        for ours, fresh in zip(made, layer.prepare(), strict=True):
            assert torch.equal(ours, fresh)


def test_what_is_kept_is_seen_without_a_refresh_and_stays_in_place() -> None:
    """A graph that was captured before reads the new values."""
    network = small()
    form = InferenceForm(network)
    with torch.inference_mode():
        before = kept(form.current())
    places = [tensor.data_ptr() for tensor in before]
    own = {parameter.data_ptr() for parameter in network.parameters()}
    assert not own & set(places)
    add_to_the_scans(network)
    with torch.inference_mode():
        after = kept(form.current())
    assert [tensor.data_ptr() for tensor in after] == places
    assert torch.equal(after[2], -torch.exp(network.get_parameter("dfm.0.mamba.A_log")))


def test_a_second_call_makes_nothing_again() -> None:
    network = small()
    form = InferenceForm(network)
    versions = [tensor._version for tensor in kept(form.current())]
    assert [tensor._version for tensor in kept(form.current())] == versions
    assert form.current().prepared is form.current().prepared


def test_half_precision_parameters_are_kept_in_float32() -> None:
    network = small().half()
    form = InferenceForm(network)
    assert {tensor.dtype for tensor in kept(form.current())} == {torch.float32}


def test_a_mamba_whose_calls_are_watched_is_called() -> None:
    network = small()
    form = InferenceForm(network)
    seen = []
    mamba = network.get_submodule("dfm.1.mamba")
    handle = mamba.register_forward_hook(lambda *_: seen.append("mamba"))
    assert len(form.current().prepared) == 2
    answer(form.current())
    assert seen == ["mamba"]
    handle.remove()
    assert len(form.current().prepared) == 3


def test_training_computes_from_the_parameters() -> None:
    network = small()
    form = InferenceForm(network)
    answer(form.current())
    network.train()
    assert form.current() is network
    template, search = (ImagePair(*torch.rand(2, 2, 3, size, size)) for size in (32, 64))
    network(template, search).score_logits.sum().backward()
    assert all(parameter.grad is not None for parameter in scan_parameters(network))


@pytest.mark.parametrize(
    "options", [{}, {"maf": "spatial"}, {"keep_ratio": 1.0}, {"keep_ratio": 0.3}], ids=str
)
def test_prepared_prompts_are_those_of_the_layers(options) -> None:
    torch.manual_seed(0)
    network = create_model("tpmri_tiny_128", **SMALL, **options).double().eval()
    assert isinstance(network.prompt_layers, nn.ModuleList)
    for layer in network.prompt_layers:
        nn.init.normal_(layer.norm.bias)
    form = InferenceForm(network)
    run = form.current()
    assert prompt_layers(run) == 2
    assert not network.prepared
    indices = answer_of_walk(run).indices
    assert indices.shape[1] == answer_of_walk(network).indices.shape[1]
    ours, theirs = answer_of_walk(run).features, answer_of_walk(network).features
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max()


def prompt_layers(network) -> int:
    """Return how many prompt layers a form has prepared."""
    return sum(layer in network.prepared for layer in network.prompt_layers)


def answer_of_walk(network):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 2, 3, 64, 64, generator=generator, dtype=torch.float64)
    with torch.inference_mode():
        return network.encode(ImagePair(*images[:2, :, :, :32, :32]), ImagePair(*images[2:]))


@pytest.mark.parametrize("options", [{"tmr": "per_layer"}, {"cmi": "bidirectional"}, {"maf": None}])
def test_prompt_layers_of_another_kind_are_called(options) -> None:
    network = create_model("tpmri_tiny_128", **SMALL, **options).eval()
    assert prompt_layers(InferenceForm(network).current()) == 0
    assert_same_answers(InferenceForm(network), network)


def test_a_prompt_layer_with_a_watched_part_is_called() -> None:
    network = small("tpmri_tiny_128")
    form = InferenceForm(network)
    assert prompt_layers(form.current()) == 2
    seen = []
    network.get_submodule("prompt_layers.0.interaction.maf").register_forward_hook(
        lambda *_: seen.append("maf")
    )
    answer(form.current())
    assert seen == ["maf", "maf"]
