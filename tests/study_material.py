"""Trials that were never run, for tests of what is made of them."""

from dataclasses import replace

from benchmarks.study.records import AlignedScores, StudySettings, Trial

SETTINGS = StudySettings(steps=20, backbone_steps=10, backbone="0123abcd", sequences=1, frames=3)

IMPERFECT = replace(SETTINGS, imperfect_cameras=True, misalignment=0.4, failing=0.15)


def trial(
    variant: str,
    seed: int,
    success: float,
    settings: StudySettings = SETTINGS,
    *,
    aligned: Trial | None = None,
    **challenges: float,
) -> Trial:
    """Make up a trial of one success in all challenges but those named.

    Its scores with aligned frames are those of another trial, ``aligned``; no alignment is sure
    where a modality is empty.
    """
    names = settings.challenges
    values = dict.fromkeys(names, success) | challenges
    values["all"] = sum(values[name] for name in names) / len(names)
    steps = [10.0, 20.0]
    curve = {
        "step": steps,
        "focal": [1.0, 0.5],
        "giou": [0.4, 0.2],
        "l1": [0.2, 0.1],
        "iou": [0.3, 0.5],
    }
    return Trial(
        variant=variant,
        seed=seed,
        settings=settings,
        success=values,
        precision=dict.fromkeys(values, 0.5),
        parameters=1_234_567,
        network_ms=3.21,
        train_seconds=7.0,
        curve=curve,
        version="0.1.0",
        commit="abc",
        machine="a-machine",
        device="cpu",
        torch="2.6.0",
        created="2020-01-01T00:00:00+00:00",
        aligned=None if aligned is None else _aligned(aligned),
    )


def _aligned(trial: Trial) -> AlignedScores:
    names = trial.settings.challenges
    unsure = {name: int(name.startswith("empty")) for name in names}
    return AlignedScores(
        success=trial.success, precision=trial.precision, sequences={}, unsure=unsure
    )
