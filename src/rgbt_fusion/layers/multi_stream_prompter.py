"""MultiStreamPrompter: the mutual prompter for any number of streams, some of them absent."""

import torch
from torch import Tensor

from rgbt_fusion.layers.mutual_prompter import Prompter
from rgbt_fusion.layers.streams import check_many_streams, check_presence
from rgbt_fusion.shapes import check_same_device, check_same_dtype, check_same_shape

__all__ = ["MultiStreamPrompter"]


class MultiStreamPrompter(Prompter):
    r"""Make a prompt for each of N token streams from all of them and the previous prompts.

    Equation 16 of :class:`~rgbt_fusion.MutualPrompter` is a sum with one term of the other stream.
    With more streams that term is the mean over the others that are present. The weights are those
    of ``MutualPrompter``: a state_dict loads either way, and two streams give its result.

    .. math::
        P^l_i = \mathrm{softmax}_L(\lambda H^t_i) \cdot H^t_i
            + \frac{1}{|O_i|} \sum_{j \in O_i} H^t_j + \tilde P^{l-1}_i, \qquad
        O_i = \{ j \ne i : m_j = 1 \}

    Paper and code: the paper has two streams. The mean, in place of a sum, keeps the size of a
    prompt whatever the number of streams. A stream that is absent (:math:`m_i = 0`) gives nothing
    and its prompt is zero; what its tokens hold is not read. A stream without another present one
    is prompted by itself and its history.

    Args:
        num_tokens, spatial_attention, token_attention, history, gate, form, reduction, fovea_scale:
            as those of :class:`~rgbt_fusion.MutualPrompter`.

    Shape:
        - streams: ``(B, N, L, C)`` with any N, floating point, in the dtype of the parameters; L =
          ``num_tokens`` for the literal spatial attention, else any
        - history: the previous prompts, ``(B, N, L, C)``, or ``None``
        - present: bool ``(B, N)``, which streams each sample has; ``None`` means all
        - returns one prompt per stream ``(B, N, L, C)``

    Raises:
        ShapeError: ``streams`` does not have the shape above or is empty, its number of tokens is
            not the one that the literal spatial attention was built for, or ``history`` or
            ``present`` does not fit it.
        TypeError: ``streams`` or ``history`` is not a tensor of the parameters' dtype, or
            ``present`` is not boolean.
        ValueError: an option is unknown or out of range, ``history`` or ``present`` lies on another
            device than ``streams``, or ``history`` is given to a prompter built without it.

    Example:
        >>> import torch
        >>> from rgbt_fusion import MultiStreamPrompter
        >>> prompter = MultiStreamPrompter(20, history=False)
        >>> rgb_thermal_depth = torch.randn(2, 3, 20, 32)
        >>> present = torch.tensor([[True, True, True], [True, True, False]])  # no depth
        >>> prompter(rgb_thermal_depth, present=present).abs().sum((2, 3)) > 0
        tensor([[ True,  True,  True],
                [ True,  True, False]])

    Source:
        Luo et al., "From Two-Stream to One-Stream: Efficient RGB-T Tracking via Mutual Prompt
        Learning and Knowledge Distillation", 2024, eq. 8-16, for two streams.
    """

    def forward(
        self, streams: Tensor, history: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Return one prompt per stream ``(B, N, L, C)``, given the previous ones or None."""
        self._check(streams, history)
        batch, count, _, _ = streams.shape
        present_streams = check_presence(present, streams)
        mask = present_streams[:, :, None, None]

        def only_present(x: Tensor) -> Tensor:
            # three copies are saved where every stream is present
            return x if present is None else x.where(mask, 0)

        # zeros stay zeros through every gate, so an absent stream gives nothing
        flat = only_present(streams).flatten(0, 1)
        prompts = self.fovea(flat).unflatten(0, (batch, count))
        offered = self.other(flat).unflatten(0, (batch, count))
        prompts = prompts + _mean_of_others(offered, present_streams)
        if history is not None and self.history is not None:
            previous = only_present(history).flatten(0, 1)
            prompts = prompts + self.history(previous).unflatten(0, (batch, count))
        return only_present(prompts)

    def _check(self, streams: Tensor, history: Tensor | None) -> None:
        parameter = next(self.parameters(), None)
        sizes = check_many_streams(streams, "B N L C", parameter=parameter)
        self.check_length(sizes["L"], name="streams")
        if history is None:
            return
        if self.history is None:
            given = type(history).__name__
            raise ValueError(
                f"history must be None for a prompter built with history=False, got {given}"
            )
        check_same_shape(history, streams, name="history", like_name="streams")
        check_same_device(history, streams, name="history", like_name="streams")
        check_same_dtype(history, streams, name="history", like_name="streams")


def _mean_of_others(x: Tensor, present: Tensor) -> Tensor:
    """Return for each of N streams ``(B, N, L, C)`` the mean of the others that are present."""
    count = x.shape[1]
    others = ~torch.eye(count, dtype=torch.bool, device=x.device)
    weights = (others & present[:, None]).to(x.dtype)
    weights = weights / weights.sum(2, keepdim=True).clamp(min=1)
    return (weights @ x.flatten(2)).view_as(x)
