"""The ground floor: what works where torch cannot be imported, and what data may load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "rgbt_fusion"

# The rooms and files that may not need torch.
MODULES = [
    "checks",
    *(f"files.{path.stem}" for path in (SOURCE / "files").glob("[!_]*.py")),
    *(f"frames.{path.stem}" for path in (SOURCE / "frames").glob("[!_]*.py")),
    *(f"data.{name}" for name in ("annotations", "checking", "first_frames", "layouts")),
    "data.sequences",
    "tracking.interface",
    *(
        f"evaluation.{name}"
        for name in ("comparison", "long_term", "metrics", "protocols", "results", "scores")
    ),
    "evaluation.scoring",
    "evaluation.tables",
]


def run(script: str, *arguments: str) -> str:
    """Run a script in a process without torch and return what it prints."""
    blocked = "import sys\nsys.modules['torch'] = None\n"
    command = [sys.executable, "-W", "error", "-c", blocked + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ground_floor_can_be_imported():
    run("".join(f"import rgbt_fusion.{name}\n" for name in MODULES))


def test_a_folder_of_text_results_is_scored(tmp_path):
    """A dataset of two sequences, and a tracker that finds one of them."""
    results = tmp_path / "results"
    results.mkdir()
    for name, left in (("bus", 10), ("car", 200)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "init.txt").write_text("10,20,30,40\n" * 3)
        (results / f"{name}.txt").write_text("10 20 30 40\n" + f"{left} 20 30 40\n" * 2)
    script = """
import json
from rgbt_fusion import load_benchmark, read_results, score
from rgbt_fusion.data.annotations import read_ground_truth
from rgbt_fusion.evaluation.tables import score_table
root, results = sys.argv[1:]
assert list(read_ground_truth(root, "lasher")) == ["bus", "car"]
benchmark = load_benchmark("lasher", root)
assert len(read_results(results, benchmark.truth).results) == 2
scores = score(results, benchmark)
score_table([scores])
print(json.dumps({name: row["SR"] for name, row in scores.sequences.items()}))
"""
    success = json.loads(run(script, str(tmp_path / "data"), str(results)))
    assert success["bus"] > 0.9
    assert success["car"] < 0.4


def test_frames_are_read_scaled_and_drawn(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    (tmp_path / "grey.pgm").write_bytes(b"P5 4 3 255 " + bytes(range(12)))
    script = """
from rgbt_fusion.frames.drawing import draw_rectangle, eight_bits
from rgbt_fusion.frames.reading import read_thermal
picture = eight_bits(read_thermal(sys.argv[1]))
draw_rectangle(picture, (1, 1, 2, 2), (255, 0, 0))
print(picture[1, 1].tolist())
"""
    assert run(script, str(tmp_path / "grey.pgm")).split() == ["[255,", "0,", "0]"]


@pytest.mark.parametrize("module", ["data", "data.clips"])
def test_data_and_clips_load_no_layer_and_no_tracker(module):
    script = (
        f"import sys, json, rgbt_fusion.{module}\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('rgbt_fusion.')]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    rooms = {name.split(".")[1] for name in json.loads(done.stdout)}
    assert rooms <= {"boxes", "checks", "data", "files", "frames", "shapes", "synthetic"}
