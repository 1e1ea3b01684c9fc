import re
import subprocess
import sys

import pytest

from rgbt_fusion import __version__
from rgbt_fusion.cli import COMMANDS, main


def run(capsys, *arguments: str) -> tuple[object, str, str]:
    """Run the command line in this process: its status, and what it wrote to either stream."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    written = capsys.readouterr()
    return left.value.code, written.out, written.err


def test_the_help_names_every_command(capsys):
    status, out, err = run(capsys, "--help")
    assert (status, err) == (0, "")
    assert all(re.search(rf"\b{name}\b", out) for name in COMMANDS)


def test_no_argument_shows_the_help(capsys):
    assert "Usage: rgbt-fusion" in "".join(run(capsys)[1:])


def test_the_version(capsys):
    assert run(capsys, "--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_needs_no_torch(arguments):
    script = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['numpy'] = None\n"
        f"from rgbt_fusion.cli import main; main({arguments})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["bench", "--nonsense"], "No such option: --nonsense"),
        (["compare", "ncc", "--data", "a", "--data", "b"], "--data must be given once"),
        (["track", "a", "b", "--txt", "c", "--txt", "d"], "--txt must be given once"),
        (["bench", "--threads", "two"], "Invalid value for '--threads'"),
        (["bench", "--table", "absent.json"], "absent.json: No such file or directory"),
    ],
)
def test_a_wrong_call_ends_in_one_line_and_status_2(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def fail_with(error):
    def app(*arguments, **options):
        raise error

    return app


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    monkeypatch.setattr("rgbt_fusion.cli.app", fail_with(RuntimeError("a fault")))
    with pytest.raises(RuntimeError, match="a fault"):
        main([])


def test_the_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setattr("rgbt_fusion.cli.app", fail_with(ValueError("wrong")))
    monkeypatch.setenv("RGBT_FUSION_TRACEBACK", "1")
    with pytest.raises(ValueError, match="wrong"):
        main([])


def test_a_backend_that_cannot_run_is_the_users_to_know(monkeypatch, capsys):
    from rgbt_fusion import BackendUnavailableError

    monkeypatch.setattr("rgbt_fusion.cli.app", fail_with(BackendUnavailableError("no card")))
    assert run(capsys) == (2, "", "error: no card\n")


def test_an_interruption_leaves_quietly(monkeypatch, capsys):
    monkeypatch.setattr("rgbt_fusion.cli.app", fail_with(KeyboardInterrupt()))
    assert run(capsys) == (130, "", "interrupted\n")


def test_an_interrupted_command_says_so(monkeypatch, capsys):
    def press(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("rgbt_fusion.data.checking.guess_layout", press)
    assert run(capsys, "data", "check", ".") == (130, "", "interrupted\n")
