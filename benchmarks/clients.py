"""Run public Mamba code, files untouched, on the names served here and on upstream's reference.

A folder holds checkouts by the names in ``CLIENTS``, and those of mamba and causal-conv1d, whose
plain PyTorch is the reference. Every client brings Python of its own, so a process runs one::

    python benchmarks/clients.py CHECKOUTS Vim

prints the largest differences of outputs and gradients, and how many times longer the client takes
when the reference stands behind the same names. Weights are random. Clients need einops and timm.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from rgbt_fusion import compat

TRITON_NAMES = (
    "mamba_ssm.ops.triton.layernorm",
    "mamba_ssm.ops.triton.layer_norm",
    "mamba_ssm.ops.triton.selective_state_update",
)
"""Modules of clients that need a GPU, and are served in their place."""

Client = tuple[nn.Module, Callable[[], Any]]
"""A module, and the call of it that is compared."""


class Reference:
    """Upstream's functions in plain PyTorch, in the forms of the compiled extensions."""

    def __init__(self, checkouts: Path) -> None:
        scan = checkouts / "mamba/mamba_ssm/ops/selective_scan_interface.py"
        conv = checkouts / "causal-conv1d/causal_conv1d/causal_conv1d_interface.py"
        self.scan = function_of(scan, "selective_scan_ref")
        self.conv = function_of(conv, "causal_conv1d_ref")

    def by_module(self) -> dict[str, dict[str, Callable[..., Any]]]:
        """Return what stands behind each name."""
        ungated = {"fwd": self._core_forward, "bwd": self._core_backward}
        return {
            "selective_scan_cuda": {"fwd": self._scan_forward, "bwd": self._scan_backward},
            "selective_scan_cuda_core": ungated,
            "selective_scan_cuda_oflex": ungated,
            "causal_conv1d_cuda": {
                "causal_conv1d_fwd": self._conv_forward,
                "causal_conv1d_bwd": self._conv_backward,
            },
        }

    def _scan_forward(self, *values: Any) -> list[Tensor]:
        u, delta, A, B, C, D, z, bias, softplus = values[:9]
        with torch.no_grad():
            out, last = self.scan(u, delta, A, B, C, D, None, bias, softplus, True)
        states = last.new_zeros(*last.shape[:2], 1, 2 * last.shape[2])
        states[:, :, 0, 1::2] = last
        return [out, states] if z is None else [out, states, out * F.silu(z)]

    def _scan_backward(self, *values: Any) -> list[Tensor | None]:
        u, delta, A, B, C, D, z, bias, dout, _, _, dz, softplus, recompute = values[:14]

        def forward(u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, bias: Any, z: Any) -> Any:
            out = self.scan(u, delta, A, B, C, D, None, bias, softplus)
            return out if z is None else out * F.silu(z)

        gated, found = gradients_of(forward, (u, delta, A, B, C, D, bias, z), dout)
        *found, grad_z = found
        if z is None:
            return found
        found.append(grad_z if dz is None else dz.copy_(grad_z))
        return [*found, gated] if recompute else found

    def _core_forward(self, *values: Any) -> list[Tensor]:
        u, delta, A, B, C, D, bias, softplus = values[:8]
        return self._scan_forward(u, delta, A, B, C, D, None, bias, softplus)

    def _core_backward(self, *values: Any) -> list[Tensor | None]:
        u, delta, A, B, C, D, bias, dout, states, softplus = values[:10]
        given = (u, delta, A, B, C, D, None, bias, dout, states, None, None, softplus, False)
        return self._scan_backward(*given)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        with torch.no_grad():
            return self.conv(x, weight, bias, activation="silu" if rest[-1] else None)

    def _conv_backward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, dout: Tensor, *rest: Any
    ) -> list[Tensor | None]:
        def forward(x: Any, weight: Any, bias: Any) -> Any:
            return self.conv(x, weight, bias, activation="silu" if rest[-1] else None)

        _, found = gradients_of(forward, (x, weight, bias), dout)
        for place in rest:
            if isinstance(place, Tensor):
                found[0] = place.copy_(found[0])
        return found


def gradients_of(
    forward: Callable[..., Tensor], inputs: tuple[Tensor | None, ...], grad: Tensor
) -> tuple[Tensor, list[Any]]:
    """Return the result of a function and the gradients of its inputs; None for None."""
    leaves = [None if x is None else x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        out = forward(*leaves)
    found = iter(torch.autograd.grad(out, [x for x in leaves if x is not None], grad))
    return out.detach(), [None if x is None else next(found) for x in leaves]


def function_of(path: Path, name: str) -> Callable[..., Any]:
    """Return one function of a file whose other lines need a GPU."""
    wanted: list[ast.stmt] = [
        part
        for part in ast.parse(path.read_text()).body
        if isinstance(part, ast.FunctionDef) and part.name == name
    ]
    scope: dict[str, Any] = {"torch": torch, "F": F, "rearrange": rearrange, "repeat": repeat}
    exec(compile(ast.Module(wanted, []), str(path), "exec"), scope)
    return scope[name]


@contextlib.contextmanager
def replaced(reference: Reference, client: nn.Module) -> Iterator[None]:
    """Put the reference in the place of ours, in the extensions and wherever a client holds it."""
    with contextlib.ExitStack() as stack:

        def put(holder: Any, name: str, value: Any) -> None:
            stack.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, value)

        for module, functions in reference.by_module().items():
            for name, function in functions.items():
                put(sys.modules[module], name, function)
        holders = [*sys.modules.values(), *client.modules()]
        for holder in holders:
            if getattr(holder, "__name__", "").startswith("rgbt_fusion"):
                continue
            for name in ("selective_scan_fn", "selective_scan"):
                held = vars(holder).get(name) if hasattr(holder, "__dict__") else None
                if getattr(held, "__module__", None) == "rgbt_fusion.compat.mamba_functions":
                    put(holder, name, reference.scan)
        yield


class _Named(type):
    """A class with every attribute."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(types.ModuleType):
    """A module that a client imports and does not use."""

    __version__ = "0"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(name, (), {"__init__": lambda self, *arguments, **options: None})


class _StandIns:
    """Finds a stand-in for packages that are not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self.names:
            return importlib.util.spec_from_loader(name, self, is_package=True)  # pyright: ignore
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def file(path: Path, name: str) -> Any:
    """Import one file of a client under a name."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def vim(root: Path) -> Client:
    sys.path[:0] = [str(root / "vim"), str(root / "mamba-1p1p1")]
    net = importlib.import_module("models_mamba").VisionMamba(
        img_size=112,
        embed_dim=192,
        depth=6,
        rms_norm=True,
        residual_in_fp32=True,
        fused_add_norm=True,
        final_pool_type="mean",
        if_abs_pos_embed=True,
        bimamba_type="v2",
        if_cls_token=True,
        if_divide_out=True,
        use_middle_cls_token=True,
    )
    images = noise(1, 3, 112, 112)
    return net, lambda: net(images)


def mamba_vt(root: Path) -> Client:
    sys.path[:0] = [str(root), str(root / "mamba-1p1p1")]
    net = file(root / "lib/models/mambatrack/vim.py", "mambavt").VisionMamba(
        img_size=128,
        embed_dim=192,
        depth=6,
        rms_norm=True,
        residual_in_fp32=True,
        fused_add_norm=True,
        if_abs_pos_embed=True,
        bimamba_type="v2",
        if_cls_token=True,
        if_devide_out=True,
        use_middle_cls_token=True,
    )
    net.pos_embed_t = nn.Parameter(noise(1, 16, 192) / 50)
    net.pos_embed_s = nn.Parameter(noise(1, 64, 192) / 50)
    template = [noise(1, 6, 64, 64)]
    search = noise(1, 6, 128, 128, seed=2)
    return net, lambda: net(template, search, None, "tsts", "spatial_first")


def st_track(root: Path) -> Client:
    sys.path[:0] = [str(root), str(root / "mamba_install/selective_scan")]
    layers = file(root / "lib/models/layers/mamba.py", "sttrack")
    net = nn.ModuleList([layers.TSGBlock(hidden_dim=192), layers.MambaFusionBlock(hidden_dim=192)])
    rgb = noise(1, 320, 192)
    other = noise(1, 320, 192, seed=2)
    return net, lambda: net[1](*net[0](rgb, other))


def v_mamba(root: Path) -> Client:
    sys.path.insert(0, str(root / "classification/models"))
    net = importlib.import_module("vmamba").VSSM(
        depths=[2, 2, 2, 2], dims=48, forward_type="v05_noz", imgsize=128, drop_path_rate=0.0
    )
    images = noise(1, 3, 128, 128)
    return net, lambda: net(images)


def mamba_vision(root: Path) -> Client:
    package = types.ModuleType("mambavision_models")
    package.__path__ = [str(root / "mambavision/models")]
    sys.modules[package.__name__] = package
    net = importlib.import_module("mambavision_models.mamba_vision").MambaVision(
        dim=48,
        in_dim=32,
        depths=[1, 1, 6, 2],
        window_size=[8, 8, 14, 7],
        mlp_ratio=4,
        num_heads=[2, 4, 8, 16],
        drop_path_rate=0.0,
    )
    images = noise(1, 3, 224, 224)
    return net, lambda: net(images)


def mamba_ir(root: Path) -> Client:
    for name in ("basicsr", "basicsr.utils"):
        sys.modules[name] = types.ModuleType(name)
    file(root / "basicsr/utils/registry.py", "basicsr.utils.registry")
    net = file(root / "basicsr/archs/mambair_arch.py", "mambair").MambaIR(
        img_size=16, embed_dim=48, depths=(1, 1), drop_path_rate=0.0, upscale=2
    )
    images = noise(1, 3, 16, 16)
    return net, lambda: net(images)


def ainet(root: Path, layers: tuple[int, ...] | None = None) -> Client:
    sys.path[:0] = [str(root), str(root / "AINet")]
    config = importlib.import_module("lib.config.ostrack_twobranch.config")
    config.update_config_from_file(str(root / "AINet/experiments/ostrack_twobranch/256.yaml"))
    config.cfg.MODEL.PRETRAIN_FILE = ""
    if layers is not None:
        config.cfg.MODEL.BACKBONE.INTERACT_LAYER = [*layers]
    models = importlib.import_module("lib.models.ostrack_twobranch")
    net = models.build_ostrack_twobranch(config.cfg, training=False)
    template = [noise(1, 3, 128, 128, seed=seed) for seed in (1, 2)]
    search = [noise(1, 3, 256, 256, seed=seed) for seed in (3, 4)]
    maps = ("pred_boxes", "score_map", "size_map", "offset_map")

    def call() -> list[Tensor]:
        found = net(template, search)
        return [found[name] for name in maps]

    return net, call


def ainet_1(root: Path) -> Client:
    """AINet-1 of the paper: the loop's backward pass takes seconds, and not an hour."""
    return ainet(root, layers=(11,))


def ainet_3(root: Path) -> Client:
    """Their configuration with three fusion layers, whose features OFM scans in one sequence."""
    return ainet(root, layers=(0, 6, 11))


CLIENTS: dict[str, Callable[[Path], Client]] = {
    "AINet": ainet,
    "AINet-1": ainet_1,
    "AINet-3": ainet_3,
    "Vim": vim,
    "MambaVT": mamba_vt,
    "STTrack": st_track,
    "VMamba": v_mamba,
    "MambaVision": mamba_vision,
    "MambaIR": mamba_ir,
}
"""The folder of each checkout, up to a hyphen, and how its model is made."""


def build(name: str, root: Path) -> Client:
    """Make a client on our names, with random weights."""
    sys.meta_path.append(_StandIns("torchvision", "fvcore"))  # pyright: ignore
    with contextlib.suppress(ImportError):
        generation: Any = importlib.import_module("transformers.generation")
        for old in ("GreedySearchDecoderOnlyOutput", "SampleDecoderOnlyOutput"):
            setattr(generation, old, generation.GenerateDecoderOnlyOutput)
    # what exists in the checkout alone, and needs a GPU
    compat.install(replace=TRITON_NAMES)
    torch.manual_seed(0)
    with compat.on_cpu():
        net, call = CLIENTS[name](root)
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter += noise(*parameter.shape, seed=number) / 50
    return net.eval(), call


def forward(call: Callable[[], Any]) -> list[Tensor]:
    with torch.no_grad(), compat.on_cpu():
        return tensors_in(call())


def with_gradients(net: nn.Module, call: Callable[[], Any]) -> dict[str, Tensor]:
    """Return the gradients of all parameters that are reached."""
    parameters = {name: x for name, x in net.named_parameters() if x.requires_grad}
    with compat.on_cpu():
        outputs = [x for x in tensors_in(call()) if x.requires_grad]
        grads = [noise(*x.shape, seed=number) for number, x in enumerate(outputs)]
        found = torch.autograd.grad(outputs, list(parameters.values()), grads, allow_unused=True)
    pairs = zip(parameters, found, strict=True)
    return {name: gradient for name, gradient in pairs if gradient is not None}


def tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    found: Iterable[Any] = value if isinstance(value, (list, tuple)) else ()
    return [x for part in found for x in tensors_in(part)]


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.process_time()
    found = function(*arguments)
    return time.process_time() - start, found


def worst_gradient(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the largest difference relative to a gradient's norm.

    A gradient that is zero but for rounding, such as that of a bias before a norm, is left out.
    """
    if ours.keys() != theirs.keys():
        raise AssertionError(f"gradients differ in {sorted(ours.keys() ^ theirs.keys())}")
    largest = max(float(x.norm()) for x in theirs.values())
    errors = [
        float((ours[name] - x).norm() / x.norm())
        for name, x in theirs.items()
        if x.norm() > 1e-4 * largest
    ]
    return max(errors)


def main() -> None:
    """Compare one client and print a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("client", choices=[*CLIENTS])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    net, call = build(options.client, options.checkouts / options.client.partition("-")[0])
    reference = Reference(options.checkouts)
    forward(call)
    times: dict[str, list[float]] = {"forward": [], "both": []}
    output_errors = []
    gradient_errors = []
    for _ in range(options.rounds):
        our_time, out = timed(forward, call)
        our_both, gradients = timed(with_gradients, net, call)
        with replaced(reference, net):
            their_time, their_out = timed(forward, call)
            their_both, their_gradients = timed(with_gradients, net, call)
        times["forward"].append(their_time / our_time)
        times["both"].append(their_both / our_both)
        for x, y in zip(out, their_out, strict=True):
            output_errors.append(float((x - y).abs().max() / y.abs().max()))
        gradient_errors.append(worst_gradient(gradients, their_gradients))
    print(
        f"{options.client}: outputs {max(output_errors):.1e}, "
        f"gradients {max(gradient_errors):.1e}, "
        f"forward {statistics.median(times['forward']):.1f}x, "
        f"with backward {statistics.median(times['both']):.1f}x"
    )
    print(compat.report())


if __name__ == "__main__":
    main()
