"""Ctrl-C during a training: the step is finished and saved first."""

import signal
import threading
from types import FrameType
from typing import Any

import torch

from rgbt_fusion.training.distributed import Processes

__all__ = ["Interruption", "TrainingStopped"]


class TrainingStopped(KeyboardInterrupt):
    """A training was asked to stop and saved its checkpoint first; the message says how to go on.

    It is a ``KeyboardInterrupt``: what follows a training in a program does not run.
    """


class Interruption:
    """Note Ctrl-C and SIGTERM instead of dying in the middle of a step, in a ``with`` statement.

    A second Ctrl-C interrupts at once. Several processes agree to stop after the same step, one at
    which they write to the log. Outside of the main thread nothing is noted, since Python hands
    signals to that thread only.

    Args:
        processes: the processes that train together.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)
    """What is noted."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.noted: str | None = None
        """What asked to stop: ``"Ctrl-C"`` or ``"SIGTERM"``."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not set by Python: it cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # torchrun sends the signal on that its processes got from the terminal, too
        if self.noted is not None and self.processes.count == 1:
            raise KeyboardInterrupt
        self.noted = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

    def asked(self, *, meets: bool = True) -> bool:
        """Return whether to stop, the same in all processes.

        Args:
            meets: whether all processes ask now; several only know when they do.
        """
        if self.processes.count == 1:
            return self.noted is not None
        if not meets:
            return False
        wanted = torch.tensor(float(self.noted is not None), device=self._device())
        return bool(self.processes.mean(wanted) > 0)

    def _device(self) -> torch.device:
        on_cards = torch.distributed.get_backend() == "nccl"
        return (
            torch.device("cuda", torch.cuda.current_device()) if on_cards else torch.device("cpu")
        )
