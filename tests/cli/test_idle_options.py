"""Options that would do nothing are refused in every command, before anything is read."""

import pytest

from rgbt_fusion.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("eval x --benchmark lasher --worst 8", "--worst must come with --report"),
        ("eval x --benchmark lasher --plot-format pdf", "--plot-format must come with --plots"),
        ("eval x --benchmark lasher --workers 2", "--workers must come with --model"),
        ("eval x --benchmark lasher --device cpu", "--device must come with --model"),
        ("eval x --benchmark lasher --fit", "--fit must come with --model"),
        ("compare --layout lasher", "--layout must come with --data"),
        ("compare --data x --frames 9", "--frames must not come with --data"),
        ("compare --data x --sequences 9", "--sequences must not come with --data"),
        ("align a b --port 8123", "--port must come with --pick"),
        ("align a b --pick --max-offset 3", "--max-offset must not come with --pick"),
        ("bench --table --quick", "--quick must not come with --table"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as left:
        main(arguments.split())
    written = capsys.readouterr().err
    assert left.value.code == 2
    assert written.startswith(f"error: {message}, got ")
    assert written.count("\n") == 1
