"""The command that says, without a card, what a card would be asked."""

import typer

__all__ = ["card"]


def card(
    every: bool = typer.Option(
        False, "--all", help="Count every preset, and a training step of each as well."
    ),
) -> None:
    """Count, without a card, the kernels of a frame and the Python in front of a launch.

    Networks run on tensors without values, launches go to a driver that does nothing. A network
    that reads a value on the host, or mixes devices, ends the command with an error.
    """
    import torch

    from benchmarks.card.host_cost import host_costs
    from benchmarks.card.launches import count_frame, count_training_step
    from benchmarks.card.model import modelled_scan
    from rgbt_fusion.models.presets import MODELS

    presets = list(MODELS) if every else list(COUNTED)
    typer.echo("| preset | dtype | kernels of a frame | casts | sent from the host |")
    typer.echo("|---|---|---|---|---|")
    for preset in presets:
        counts = count_frame(preset, torch.float16)
        typer.echo(
            f"| `{preset}` | float16 | {counts.total} | {counts.casts} | "
            f"{counts.copies_from_host} |"
        )
    if every:
        typer.echo("\n| preset | kernels of a training step | sent from the host |\n|---|---|---|")
        for preset in presets:
            counts = count_training_step(preset)
            typer.echo(f"| `{preset}` | {counts.total} | {counts.copies_from_host} |")
    typer.echo("\n| call | Python in `torch.add` | launches |\n|---|---|---|")
    for cost in host_costs():
        typer.echo(f"| {cost.name} | {cost.adds:.0f} | {cost.launches} |")
    typer.echo("\n| scan | chunks | programs | modelled µs on an H200 |\n|---|---|---|---|")
    for channels, length in MODELLED:
        scan = modelled_scan(channels, length)
        size = f"1 x {scan.length} x {scan.channels}"
        typer.echo(f"| {size} | {scan.chunks} | {scan.programs} | {scan.us:.1f} |")


COUNTED = ("ainet_vitb_256", "mutual_prompt_teacher_vitb_256", "tpmri_vitb_256", "ostrack_vitb_256")
"""The presets that are counted by default."""

MODELLED = ((768, 320), (1536, 320), (384, 3840))
"""Channels and length of the scans that are modelled: those of DFM, of twice its width, of OFM."""
