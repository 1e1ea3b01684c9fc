"""What needs no network works where torch cannot be imported, and loads no network where it can."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

RUNS = Path(__file__).resolve().parents[1] / "fixtures" / "0.1.0" / "runs"
BLOCKED = "import sys; sys.modules['torch'] = None\n"


def run(script: str, *arguments: str | Path) -> str:
    """Run a script in a process of its own, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def without_torch(script: str, *arguments: str | Path) -> str:
    """Run a script where importing torch fails."""
    return run(BLOCKED + textwrap.dedent(script), *arguments)


def test_torch_is_really_blocked():
    script = """
        try:
            import torch
        except ModuleNotFoundError:
            print("blocked")
    """
    assert without_torch(script) == "blocked"


def test_a_folder_of_results_is_scored_with_all_numbers():
    script = """
        from pathlib import Path
        from rgbt_fusion import load_benchmark, read_results, score

        folder = Path(sys.argv[1])
        benchmark = load_benchmark("rgbt234", folder / "annotations")
        results = read_results(folder / "slow", benchmark.truth)
        for given in (results, folder / "slow"):
            scores = score(given, benchmark)
            print(scores.tracker, len(scores.sequences), scores.metrics["MSR"])
    """
    first, second = without_torch(script, RUNS).splitlines()
    from rgbt_fusion import load_benchmark, score

    expected = score(RUNS / "slow", load_benchmark("rgbt234", RUNS / "annotations"))
    assert first == second == f"slow 4 {expected.metrics['MSR']}"


def test_scores_become_tables_plots_and_a_report(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    script = """
        from pathlib import Path
        from rgbt_fusion import load_benchmark, score, write_report
        from rgbt_fusion.evaluation.tables import score_table
        from rgbt_fusion.files.table import to_markdown

        folder, page = map(Path, sys.argv[1:])
        benchmark = load_benchmark("lasher", folder / "annotations")
        scores = [score(folder / name, benchmark) for name in ("slow", "fast")]
        write_report(scores, page, truth=benchmark.truth)
        print(to_markdown(score_table(scores)))
    """
    table = without_torch(script, RUNS, tmp_path / "report.html").splitlines()
    assert table[0] == "| tracker | PR | NPR | SR | fps |"
    assert {line.split(" | ")[0] for line in table[2:]} == {"| slow", "| fast"}
    assert (tmp_path / "report.html").read_text().count("<h2>") == 6


def test_layouts_annotations_and_sequences_are_read():
    script = """
        from pathlib import Path
        from rgbt_fusion import open_dataset, open_sequence
        from rgbt_fusion.data.annotations import find_sequences, read_ground_truth
        from rgbt_fusion.data.layouts import LAYOUTS, get_layout

        folder = Path(sys.argv[1]) / "annotations"
        truth = read_ground_truth(folder, "rgbt234")
        print(len(LAYOUTS) > 5, get_layout("rgbt234").rgb, len(truth))
        print(*(len(one.rgb) for one in truth.values()))
    """
    told, lengths = without_torch(script, RUNS).splitlines()
    assert told == "True ('visible',) 4"
    assert sorted(map(int, lengths.split())) == [20, 25, 30, 35]


def test_a_dataset_of_images_is_opened_and_tracked(tmp_path):
    from evaluation_material import write_dataset

    write_dataset(tmp_path / "data", {"a": 4, "b": 3})
    script = """
        import numpy as np
        from rgbt_fusion import open_dataset, run_tracker, score
        from rgbt_fusion.tracking.interface import TrackResult

        class Still:
            def init(self, rgb, tir, box_xywh_px):
                self.result = TrackResult(np.array(box_xywh_px), 1.0, False, 0)
                return self.result

            def update(self, rgb, tir):
                return self.result

        dataset = open_dataset(sys.argv[1], "rgbt234")
        report = run_tracker(Still, dataset, sys.argv[2])
        print(sorted(report.finished), report.frames, report.failed)
        print(sorted(score(sys.argv[2], "rgbt234", root=sys.argv[1]).sequences))
    """
    tracked, scored = without_torch(script, tmp_path / "data", tmp_path / "still").splitlines()
    assert tracked == "['a', 'b'] 7 {}"
    assert scored == "['a', 'b']"


@pytest.mark.parametrize("module", ["data", "data.clips", "data.sequences", "data.checking"])
def test_data_loads_no_layer_and_no_tracker(module):
    script = f"""
        import sys
        import rgbt_fusion.{module}
        rooms = {{name.split(".")[1] for name in sys.modules if name.startswith("rgbt_fusion.")}}
        print(*sorted(rooms))
    """
    rooms = set(run(script).split())
    assert rooms <= {"checks", "shapes", "boxes", "files", "frames", "synthetic", "data"}
    assert "data" in rooms


@pytest.mark.parametrize("module", ["scoring", "results", "tables", "plots", "report", "run"])
def test_evaluation_loads_no_network(module):
    script = f"""
        import sys
        import rgbt_fusion.evaluation.{module}
        print(*sorted(name for name in sys.modules if name == "torch" or "models" in name))
    """
    assert run(script) == ""
