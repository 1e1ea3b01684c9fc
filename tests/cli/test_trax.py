"""``rgbt-fusion trax`` through pipes, as the VOT toolkit starts it, and through a socket."""

import socket
import subprocess
import sys
import threading

import pytest

from rgbt_fusion.cli import main
from rgbt_fusion.tracking.trax import parse_message
from tracking_material import BOX, scene

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


@pytest.fixture
def requests(tmp_path) -> str:
    lines = []
    for k, (rgb, tir) in enumerate(scene(2)):
        paths = [tmp_path / f"color{k}.png", tmp_path / f"ir{k}.png"]
        cv2.imwrite(str(paths[0]), rgb[:, :, ::-1])
        cv2.imwrite(str(paths[1]), tir)
        images = " ".join(f'"file://{path}"' for path in paths)
        region = f' "{",".join(map(str, BOX))}"' if k == 0 else ""
        lines.append(f"@@TRAX:{'frame' if k else 'initialize'} {images}{region} \n")
    return "".join([*lines, "@@TRAX:quit \n"])


def names(text: str) -> list[str]:
    return [message.name for line in text.splitlines() if (message := parse_message(line))]


def test_through_pipes(requests):
    program = "from rgbt_fusion.cli import main; main(['trax', '--model', 'ncc'])"
    done = subprocess.run(
        [sys.executable, "-c", program], input=requests, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert names(done.stdout) == ["hello", "state", "state"]


def test_through_a_socket(requests, monkeypatch):
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def client() -> None:
            line, _ = listening.accept()
            with line, line.makefile("rw", encoding="utf-8") as file:
                file.write(requests)
                file.flush()
                heard.extend(file)

        thread = threading.Thread(target=client)
        thread.start()
        monkeypatch.setenv("TRAX_SOCKET", str(listening.getsockname()[1]))
        with pytest.raises(SystemExit) as left:
            main(["trax", "--model", "ncc"])
        thread.join()
    assert left.value.code == 0
    assert names("".join(heard)) == ["hello", "state", "state"]


@pytest.mark.parametrize(
    ("arguments", "variable", "message"),
    [
        (["--model", "nothing"], "", "--model must be"),
        (["--model", "ncc", "--channels", "color,audio"], "", "channels must be"),
        (["--model", "ncc"], "somewhere", "TRAX_SOCKET must be PORT or HOST:PORT"),
    ],
)
def test_what_cannot_work(arguments, variable, message, monkeypatch, capsys):
    monkeypatch.setenv("TRAX_SOCKET", variable)
    with pytest.raises(SystemExit) as left:
        main(["trax", *arguments])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
