"""The Mamba block, on the ops of this library, with the parameters of ``mamba_ssm.Mamba``."""

import math
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int
from rgbt_fusion.ops.backends import NAMES, BackendName
from rgbt_fusion.ops.causal_conv1d import ordered_causal_conv1d
from rgbt_fusion.ops.conv_update import causal_conv1d_update
from rgbt_fusion.ops.selective_scan import ordered_selective_scan
from rgbt_fusion.ops.state_update import selective_state_update
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "InferenceParams",
    "MambaBlock",
    "ScanParameters",
    "StepStart",
    "decay_rates",
    "initialise_scan_",
    "inner_width",
    "mark_parameter",
    "precise",
    "step_rank",
]

StepStart = Literal["random", "constant"]
"""How the projection to the step sizes starts."""


class _ScanStart(TypedDict):
    """How the parameters of a scan start: the arguments of :func:`initialise_scan_`."""

    dt_min: float
    dt_max: float
    dt_init: StepStart
    dt_scale: float
    dt_init_floor: float


class _Place(TypedDict):
    """Where and how parameters are created: the last arguments of every ``torch.nn`` layer."""

    device: torch.device | str | None
    dtype: torch.dtype | None


class InferenceParams(Protocol):
    """What mamba-ssm hands from layer to layer while it generates."""

    seqlen_offset: int
    """How many tokens were seen; 0 is the prompt, which comes as a whole."""
    key_value_memory_dict: dict[int, Any]
    """The states of each layer, by its ``layer_idx``."""


class ScanParameters(NamedTuple):
    """The parameters of a Mamba as its ops compute with them: in float32 at least."""

    conv_weight: Tensor
    conv_bias: Tensor | None
    A: Tensor
    D: Tensor
    delta_bias: Tensor


class MambaBlock(TypedModule):
    r"""Mix a token sequence with a selective state space: a ``mamba_ssm.Mamba`` for any machine.

    One projection opens the input into a sequence and a gate. The sequence passes a short causal
    convolution with SiLU and a selective scan whose step, input and read-out depend on the token.
    The gated result is projected back. Tokens stay ``(B, L, C)`` throughout: nothing is transposed.

    .. math::
        [x, z] &= h W_{in}, \quad x \leftarrow \mathrm{silu}(\mathrm{conv}(x)) \\
        [\delta, B, C] &= x W_x, \quad \Delta = \mathrm{softplus}(\delta W_\Delta + b_\Delta) \\
        \text{out} &= \big(\mathrm{SSM}_{A,D}(x; \Delta, B, C) \odot \mathrm{silu}(z)\big) W_{out}

    For generation, :meth:`step` takes one token and the states that
    :meth:`allocate_inference_cache` makes; ``inference_params`` keeps them by layer.

    Paper and code: constructor arguments, attributes, parameter names, shapes and initial values
    are those of ``mamba_ssm.Mamba``, so a ``state_dict`` loads either way. So are the marks on the
    parameters that initialisers and optimisers read: ``A_log`` and ``D`` are ``_no_weight_decay``,
    ``dt_proj.bias`` is ``_no_reinit``. The initial step sizes are drawn
    log-uniformly from ``[dt_min, dt_max]`` and stored in ``dt_proj.bias`` through the inverse
    softplus. A parent module that initialises every ``nn.Linear`` anew destroys them: call
    :meth:`reset_scan_parameters` afterwards, or leave these layers out, as every module of this
    library does.

    Args:
        d_model: channels of the tokens; the name is that of ``mamba_ssm.Mamba``.
        d_state: size of the state of one channel.
        d_conv: taps of the convolution.
        expand: inner width over ``d_model``; may be a fraction.
        dt_rank: rank of the step-size projection; ``"auto"`` is ``ceil(d_model / 16)``.
        dt_min: smallest initial step.
        dt_max: largest initial step.
        dt_init: how ``dt_proj.weight`` starts, ``"random"`` or ``"constant"``.
        dt_scale: scale of that start.
        dt_init_floor: no initial step is below this.
        conv_bias: give the convolution a bias.
        bias: give the two projections a bias.
        use_fast_path: accepted for compatibility; there is one path.
        layer_idx: under which number ``inference_params`` keeps the states of this layer.
        device: where to create the parameters.
        dtype: in which dtype to create them.
        backend: which implementation of the ops must run; ``"auto"`` takes the best that can.

    Shape:
        - hidden_states: ``(B, L, C)`` with C = ``d_model``, floating point; L = 1 while generating
        - returns ``(B, L, C)``

    Raises:
        ShapeError: ``hidden_states`` does not have the shape above.
        TypeError: ``hidden_states`` is not a tensor, or an argument has the wrong type.
        ValueError: an argument is out of range, or ``dt_init`` or ``backend`` is unknown;
            ``inference_params`` is given to a layer without a ``layer_idx``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import MambaBlock
        >>> block, tokens = MambaBlock(32), torch.randn(2, 10, 32)
        >>> changed = tokens.clone()
        >>> changed[:, 7:] = 0  # a token sees those before it only
        >>> torch.allclose(block(tokens)[:, :7], block(changed)[:, :7], atol=1e-6)
        True

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, fig. 3
        and algorithm 2.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: StepStart = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: BackendName = "auto",
    ) -> None:
        super().__init__()
        self.d_model = check_positive_int(d_model, name="d_model")
        self.d_state = check_positive_int(d_state, name="d_state")
        self.d_conv = check_positive_int(d_conv, name="d_conv")
        self.expand = expand
        self.d_inner = inner_width(d_model, expand)
        self.dt_rank = step_rank(d_model, dt_rank)
        self.layer_idx = layer_idx
        self.use_fast_path = use_fast_path
        self.activation = "silu"
        check_choice(dt_init, get_args(StepStart), name="dt_init")
        check_choice(backend, NAMES, name="backend")
        self.backend: BackendName = backend
        self._start: _ScanStart = {
            "dt_min": check_finite_number(dt_min, name="dt_min", low=1e-12),
            "dt_max": check_finite_number(dt_max, name="dt_max", low=dt_min),
            "dt_init": dt_init,
            "dt_scale": check_finite_number(dt_scale, name="dt_scale"),
            "dt_init_floor": check_finite_number(dt_init_floor, name="dt_init_floor", low=0.0),
        }
        place: _Place = {"device": device, "dtype": dtype}
        inner = self.d_inner
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias, **place)
        self.conv1d = nn.Conv1d(
            inner, inner, d_conv, groups=inner, padding=d_conv - 1, bias=conv_bias, **place
        )
        self.act = nn.SiLU()
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * d_state, bias=False, **place)
        self.dt_proj = _StepProjection(self.dt_rank, inner, bias=True, **place)
        # The state space is kept in float32 whatever the dtype of the projections, as in mamba-ssm.
        self.A_log = nn.Parameter(torch.empty(inner, d_state, device=device, dtype=torch.float32))
        self.D = nn.Parameter(torch.empty(inner, device=device, dtype=torch.float32))
        self.out_proj = nn.Linear(inner, d_model, bias=bias, **place)
        self.reset_scan_parameters()
        mark_parameter(self.A_log, "_no_weight_decay")
        mark_parameter(self.D, "_no_weight_decay")
        mark_parameter(self.dt_proj.bias, "_no_reinit")

    def reset_scan_parameters(self) -> None:
        """Give ``dt_proj``, ``A_log`` and ``D`` Mamba's own initial values."""
        initialise_scan_(self.dt_proj.weight, self.dt_proj.bias, self.A_log, self.D, **self._start)

    def forward(
        self, hidden_states: Tensor, inference_params: InferenceParams | None = None
    ) -> Tensor:
        """Mix the tokens ``(B, L, C)``, each with those before it; the shape stays.

        With ``inference_params`` the states are kept there: the first call takes the prompt, each
        later one a token.
        """
        check_shape(hidden_states, "B L C", C=self.d_model, name="hidden_states")
        if inference_params is None:
            return self.mix(hidden_states, self.prepare())
        states = self._get_states_from_cache(inference_params, hidden_states.shape[0])
        if inference_params.seqlen_offset > 0:
            out, _, _ = self.step(hidden_states, *states)
            return out
        return self.mix(hidden_states, self.prepare(), states)

    def prepared_from(self) -> tuple[Tensor | None, ...]:
        """Return the parameters that :meth:`prepare` reads."""
        return (self.conv1d.weight, self.conv1d.bias, self.A_log, self.D, self.dt_proj.bias)

    def prepare(self) -> ScanParameters:
        """Return what :meth:`mix` computes with; it may be kept while the parameters stay."""
        return ScanParameters(
            conv_weight=precise(self.conv1d.weight[:, 0]),
            conv_bias=None if self.conv1d.bias is None else precise(self.conv1d.bias),
            A=decay_rates(self.A_log),
            D=precise(self.D),
            delta_bias=precise(self.dt_proj.bias),
        )

    def mix(
        self,
        hidden_states: Tensor,
        scan: ScanParameters,
        states: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Mix all tokens ``(B, L, C)`` with prepared parameters.

        Where there are states, what continues the sequence is left in them.
        """
        x, z = self.in_proj(hidden_states).chunk(2, dim=-1)
        if states is not None:
            conv_state, _ = states
            missing = max(0, self.d_conv - x.shape[1])
            last = F.pad(x.mT, (missing, 0))
            conv_state.copy_(last[:, :, last.shape[2] - self.d_conv :])
        x = ordered_causal_conv1d(x, scan.conv_weight, scan.conv_bias, "silu", backend=self.backend)
        delta, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        y, last_state = ordered_selective_scan(
            x,
            F.linear(delta, self.dt_proj.weight),
            scan.A,
            B,
            C,
            scan.D,
            z,
            scan.delta_bias,
            delta_softplus=True,
            backend=self.backend,
        )
        if states is not None:
            _, ssm_state = states
            ssm_state.copy_(last_state)
        return self.out_proj(y)

    def step(
        self, hidden_states: Tensor, conv_state: Tensor, ssm_state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix one token ``(B, 1, C)`` with those in the states, which take it in.

        Args:
            hidden_states: the next token.
            conv_state: the last inputs of the convolution, ``(B, D, d_conv)``; overwritten.
            ssm_state: the state of the scan, ``(B, D, d_state)``; overwritten.

        Returns:
            The mixed token ``(B, 1, C)`` and both states.
        """
        check_shape(hidden_states, "B 1 C", C=self.d_model, name="hidden_states")
        x, z = self.in_proj(hidden_states[:, 0]).chunk(2, dim=-1)
        x = causal_conv1d_update(x, conv_state, self.conv1d.weight[:, 0], self.conv1d.bias, "silu")
        delta, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        y = selective_state_update(
            ssm_state,
            x,
            F.linear(delta, self.dt_proj.weight),
            decay_rates(self.A_log),
            B,
            C,
            self.D,
            z,
            self.dt_proj.bias,
            dt_softplus=True,
            backend=self.backend,
        )
        return self.out_proj(y)[:, None], conv_state, ssm_state

    def allocate_inference_cache(
        self, batch_size: int, max_seqlen: int, dtype: torch.dtype | None = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Return empty states for :meth:`step`, whose size does not depend on ``max_seqlen``.

        Args:
            batch_size: B.
            max_seqlen: accepted for compatibility.
            dtype: of both states; that of the parameters if absent.

        Returns:
            ``conv_state (B, D, d_conv)`` and ``ssm_state (B, D, d_state)``, zeros.
        """
        conv_state = self.conv1d.weight.new_zeros(
            batch_size, self.d_inner, self.d_conv, dtype=dtype
        )
        ssm_state = self.dt_proj.weight.new_zeros(
            batch_size, self.d_inner, self.d_state, dtype=dtype
        )
        return conv_state, ssm_state

    def _get_states_from_cache(
        self, inference_params: InferenceParams, batch_size: int, initialize_states: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the states of this layer, made at its first call; the name is mamba-ssm's."""
        if self.layer_idx is None:
            raise ValueError("layer_idx must be given where inference_params is, got None")
        kept = inference_params.key_value_memory_dict
        if self.layer_idx not in kept:
            kept[self.layer_idx] = self.allocate_inference_cache(batch_size, 0)
        elif initialize_states:
            for state in kept[self.layer_idx]:
                state.zero_()
        return kept[self.layer_idx]

    def extra_repr(self) -> str:
        """Show the options."""
        options = {
            "d_model": self.d_model,
            "d_state": self.d_state,
            "d_conv": self.d_conv,
            "expand": self.expand,
            "dt_rank": self.dt_rank,
            **self._start,
            "conv_bias": self.conv1d.bias is not None,
            "bias": self.in_proj.bias is not None,
            "backend": self.backend,
        }
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


class _StepProjection(nn.Linear):
    """A linear layer that is never called: the block reads its weight, the scan adds its bias.

    A class of its own, so that what exchanges linear layers for others, such as
    ``torch.ao.quantization.quantize_dynamic``, leaves the tensors where they are.
    """


def mark_parameter(parameter: nn.Parameter, mark: str) -> None:
    """Set a mark that initialisers and optimisers of Mamba code look for."""
    setattr(parameter, mark, True)


def inner_width(dim: int, expand: float) -> int:
    """Return the inner width ``int(expand * dim)``; raise ``ValueError`` where it is zero."""
    check_finite_number(expand, name="expand", low=0.0)
    # 48 / 768 times 768 must be 48 again, whatever the rounding of the fraction.
    inner = int(expand * dim + 1e-6)
    if inner < 1:
        raise ValueError(
            f"expand must leave an inner width of at least 1, got {expand} of {dim} channels"
        )
    return inner


def step_rank(dim: int, dt_rank: int | Literal["auto"]) -> int:
    """Return the rank of the step-size projection; ``"auto"`` is ``ceil(dim / 16)``."""
    if dt_rank == "auto":
        return math.ceil(dim / 16)
    return check_positive_int(dt_rank, name="dt_rank")


def precise(parameter: Tensor) -> Tensor:
    """Return a parameter in float32 at least: the ops compute with no less."""
    if parameter.dtype in (torch.float32, torch.float64):
        return parameter
    return parameter.float()


def decay_rates(A_log: Tensor) -> Tensor:
    """Return ``A = -exp(A_log)``, in float32 at least: the state space is never less precise."""
    return -torch.exp(precise(A_log))


@torch.no_grad()
def initialise_scan_(
    dt_weight: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    *,
    dt_min: float = 0.001,
    dt_max: float = 0.1,
    dt_init: StepStart = "random",
    dt_scale: float = 1.0,
    dt_init_floor: float = 1e-4,
) -> None:
    """Fill the parameters of a scan with Mamba's initial values.

    Several scans may be stacked along leading axes. The options are those of :class:`MambaBlock`.
    """
    spread = dt_weight.shape[-1] ** -0.5 * dt_scale
    if dt_init == "random":
        dt_weight.uniform_(-spread, spread)
    else:
        dt_weight.fill_(spread)
    # drawn log-uniformly between dt_min and dt_max
    share = torch.rand(dt_bias.shape, device=dt_bias.device, dtype=torch.float32)
    log_step = share * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)
    step = torch.exp(log_step).clamp(min=dt_init_floor)
    # inverse of the softplus that the scan applies
    dt_bias.copy_(step + torch.log(-torch.expm1(-step)))
    states = torch.arange(1, A_log.shape[-1] + 1, device=A_log.device, dtype=torch.float32)
    A_log.copy_(states.log().expand_as(A_log))
    D.fill_(1.0)
