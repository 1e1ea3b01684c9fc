"""``rgbt-fusion distill``: train a student with the help of a teacher."""

from typing import Annotated

import typer

from rgbt_fusion.cli.align import REMEDY, choose, name_options
from rgbt_fusion.cli.train import (
    AlignOption,
    BoardOption,
    ConfigArgument,
    DataOption,
    DeviceOption,
    FitOption,
    HomographyOption,
    NamesOption,
    OutOption,
    SetOption,
    StartOption,
    ThreadsOption,
    ValidationNamesOption,
    changed,
    progress_line,
    say_result,
    told_when_stopped,
    use_threads,
)


def distill(
    config: ConfigArgument,
    teacher: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Model file of the teacher, of this library, or package.module:function, which "
            "builds your own with its weights.",
        ),
    ],
    out: OutOption,
    data: DataOption = None,
    names: NamesOption = None,
    validation_names: ValidationNamesOption = None,
    start_from: StartOption = None,
    change: SetOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    tensorboard: BoardOption = False,
    align: AlignOption = None,
    fit: FitOption = False,
    homography: HomographyOption = None,
) -> None:
    """Train a student that also learns from the tokens and responses of its teacher.

    Ctrl-C saves the training first; run the same command again to resume it.
    """
    from rgbt_fusion.models.named import build_named, names_code
    from rgbt_fusion.training import DistillConfig, config_from_table, read_table
    from rgbt_fusion.training import distill as run

    settings = config_from_table(DistillConfig, changed(read_table(config), change or []))
    use_threads(threads)
    choice = choose(align, fit=fit, homography=homography)
    with name_options({}, REMEDY), progress_line() as show, told_when_stopped():
        result = run(
            settings,
            teacher=build_named(teacher) if names_code(teacher) else teacher,
            out=out,
            data=data or None,
            names=names or None,
            validation_names=validation_names,
            start_from=start_from,
            device=device,
            tensorboard=tensorboard,
            on_progress=show,
            align=choice,
        )
    say_result(result)
