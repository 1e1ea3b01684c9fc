"""``rgbt-fusion trax``: let the VOT toolkit, or any client of TraX, drive a tracker."""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from rgbt_fusion.cli.trackers import (
    CHECKPOINT_HELP,
    DEVICE_HELP,
    TRACKER_HELP,
    make_tracker,
    tracker_name,
)
from rgbt_fusion.cli.tracking_options import NOTHING_GIVEN, takes_settings

if TYPE_CHECKING:
    from rgbt_fusion.tracking.trax import TraxChannel

SOCKET_VARIABLE = "TRAX_SOCKET"
"""The environment variable by which a client asks for a socket in place of the pipes."""

THIS_MACHINE = "127.0.0.1"


@takes_settings
def trax(
    model: Annotated[str, typer.Option(help=TRACKER_HELP)],
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    channels: Annotated[
        str,
        typer.Option(
            help="Images that the client sends per frame, with commas between them: color, and ir "
            "or depth, or one of them."
        ),
    ] = "color,ir",
    settings: Mapping[str, Any] = NOTHING_GIVEN,
) -> None:
    """Let the VOT toolkit, or any client of the TraX protocol, drive a tracker.

    The client starts this command and speaks with it through its pipes, or through the socket that
    TRAX_SOCKET names. It is not for a terminal: `rgbt-fusion track` follows a target in a video.
    """
    from rgbt_fusion.tracking.trax import serve

    tracker = make_tracker(model, checkpoint, device, settings)
    names = tuple(name.strip() for name in channels.split(","))
    # serve refuses an unknown one
    wanted = cast("tuple[TraxChannel, ...]", names)
    with ExitStack() as stack:
        requests, replies = _streams(stack)
        serve(tracker, requests, replies, name=tracker_name(model), channels=wanted)


def _streams(stack: ExitStack) -> tuple[TextIO, TextIO]:
    """Return where the client's requests come from and where the replies go."""
    address = os.environ.get(SOCKET_VARIABLE)
    if not address:
        return sys.stdin, sys.stdout
    import socket

    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise ValueError(f"{SOCKET_VARIABLE} must be PORT or HOST:PORT, got {address!r}")
    line = stack.enter_context(socket.create_connection((host or THIS_MACHINE, int(port))))
    requests = stack.enter_context(line.makefile("r", encoding="utf-8", newline="\n"))
    replies = stack.enter_context(line.makefile("w", encoding="utf-8", newline="\n"))
    return requests, replies
