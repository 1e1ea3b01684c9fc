import os
import re
import subprocess
import sys
from itertools import pairwise

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


def test_the_commands_import_nothing_beyond_what_typer_does():
    script = (
        "import sys, typer, typer.rich_utils\n"
        "before = set(sys.modules)\n"
        "import rgbt_fusion.cli\n"
        "print(*sorted(n for n in set(sys.modules) - before if not n.startswith('rgbt_fusion')))\n"
        "print(*sorted(n for n in sys.modules if n.startswith('rgbt_fusion')))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    others, ours = done.stdout.split("\n")[:2]
    assert others == ""
    assert {name.split(".")[1] for name in ours.split()[1:]} == {"cli"}


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


def test_every_command_answers_to_the_short_help(capsys):
    for arguments in ([], *([name] for name in COMMANDS), ["data", "check"]):
        status, out, err = run(capsys, *arguments, "-h")
        assert (status, err) == (0, "")
        assert "Usage: rgbt-fusion" in out


def test_the_help_is_wrapped_to_the_terminal_alone(capsys):
    for name in ("train", "eval"):
        _, out, _ = run(capsys, name, "-h")
        description = out.split("Usage:")[1].split("\u256d")[0]
        for paragraph in re.split(r"\n\s*\n", description):
            lines = [line.strip() for line in paragraph.splitlines()]
            # a line ends where the first word of the next one has no place
            assert all(
                len(line) + len(following.split()[0]) > 70 for line, following in pairwise(lines)
            ), paragraph


def test_a_shell_completes_commands_and_names():
    def completed(words: str) -> set[str]:
        variables = {
            "_RGBT_FUSION_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        script = "import sys\nfrom rgbt_fusion.cli import main; main([])"
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | variables,
        )
        return set(done.stdout.split())

    assert completed("rgbt-fusion tr") == {"train", "track", "trax"}
    assert completed("rgbt-fusion train ainet_vitb_384") == {
        "ainet_vitb_384_lasher",
        "ainet_vitb_384_vtuav",
    }
    assert completed("rgbt-fusion eval --benchmark vtuav") == {"vtuav_lt", "vtuav_st"}
    assert {"ainet_tiny_128", "ainet_tiny_128_compact"} == completed(
        "rgbt-fusion track --model ainet_tiny"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean"),
        (["eval", "results", "--benchmark", "lashr"], "did you mean 'lasher'?"),
        (["eval", "results", "--benchmark", "gtot", "--protocol", "oficial"], "'official'?"),
        (["data", "check", ".", "--layout", "lashr"], "did you mean 'lasher'?"),
        (["train", "ainet_tiny_synthetic", "--out", "a", "--data", "a"], "'ainet_tiny_128_syn"),
        (["track", "a", "--init", "1,1,9,9", "--model", "ainet_tiny128"], "'ainet_tiny_128'"),
        (["info", "ainet_tiny128"], "did you mean 'ainet_tiny_128'"),
        (["convert", "a", "b", "--model", "ainet_tiny128"], "did you mean 'ainet_tiny_128'"),
        (["bench", "scam"], "did you mean 'scan'?"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(capsys, arguments, message):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["bench", "--nonsense"], "No such option: --nonsense"),
        (["compare", "ncc", "--data", "a", "--data", "b"], "--data must be given once"),
        (["track", "a", "b", "--txt", "c", "--txt", "d"], "--txt must be given once"),
        (["bench", "--threads", "two"], "Invalid value for '--threads'"),
        (
            ["bench", "--table", "absent.json"],
            "absent.json cannot be read: No such file or directory",
        ),
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


def test_a_backend_or_a_network_that_cannot_run_is_the_users_to_know(monkeypatch, capsys):
    from rgbt_fusion import BackendUnavailableError, NetworkError

    for error in (BackendUnavailableError("no card"), NetworkError("no forward")):
        monkeypatch.setattr("rgbt_fusion.cli.app", fail_with(error))
        assert run(capsys) == (2, "", f"error: {error}\n")


def test_an_interruption_leaves_quietly(monkeypatch, capsys):
    monkeypatch.setattr("rgbt_fusion.cli.app", fail_with(KeyboardInterrupt()))
    assert run(capsys) == (130, "", "interrupted\n")


def test_an_interrupted_command_says_so(monkeypatch, capsys):
    def press(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("rgbt_fusion.data.checking.guess_layout", press)
    assert run(capsys, "data", "check", ".") == (130, "", "interrupted\n")
