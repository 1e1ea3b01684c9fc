"""Write the page of the command line from the help of the commands: run it after a help changed.

python docs/command_line_page.py
"""

import inspect
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import typer
from typer.main import get_command
from typer.models import ArgumentInfo, OptionInfo

from rgbt_fusion.cli import COMMANDS, app
from rgbt_fusion.files.table import Table, to_markdown

PAGE = Path(__file__).with_name("command_line.md")

TOP = """# Command line

`pip install rgbt-fusion` brings the command `rgbt-fusion`. Every command explains itself:
`rgbt-fusion COMMAND -h`. This page is made from the same help.

A mistake ends with one line that says what must be given instead, and status 2; a misspelt name is
answered with the nearest ones. With `RGBT_FUSION_TRACEBACK=1` in the environment the line comes
with the place in the code.

`rgbt-fusion --install-completion` has your shell (bash, zsh, fish, PowerShell) complete commands,
options, and the names of models, recipes, benchmarks and layouts; it begins in the next shell.
`rgbt-fusion --show-completion` prints what it would install.
"""

EXAMPLES = {
    "info": "rgbt-fusion info ainet_vitb_256",
    "models": "rgbt-fusion models ainet --most-parameters 40",
    "demo": "rgbt-fusion demo",
    "bench": "rgbt-fusion bench scan --shape 1,768,256,16 --dtype bfloat16",
    "recipes": "rgbt-fusion recipes ainet_tiny_128_synthetic",
    "train": "rgbt-fusion train ainet_tiny_128_synthetic --out my_tracker "
    "--set validation.every=500",
    "distill": "rgbt-fusion distill one_stream_student_vitb_256_lasher "
    "--teacher teacher.safetensors --data LasHeR --out student",
    "plot": "rgbt-fusion plot runs/one runs/two --out both.png",
    "track": "rgbt-fusion track rgb.mp4 tir.mp4 --init 204,77,52,155 --out out.mp4 --txt out.txt",
    "trax": "rgbt-fusion trax --model ncc",
    "align": "rgbt-fusion align rgb.mp4 tir.mp4 --out align.json --preview align.png",
    "eval": "rgbt-fusion eval RESULTS --benchmark lasher --attributes --report lasher.html",
    "compare": "rgbt-fusion compare --halves",
    "data check": "rgbt-fusion data check LasHeR",
    "convert": "rgbt-fusion convert AINet_ep0015.pth.tar ainet.safetensors",
    "export": "rgbt-fusion export ainet.safetensors ainet.onnx --int8",
    "verify": "rgbt-fusion verify",
}
"""One call of every command; the tests parse it."""


PLACEHOLDERS = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
"""What stands behind an option that names nothing itself, by the type of its value."""


class Parameter(NamedTuple):
    """An argument or an option of a command, as its function declares it."""

    name: str
    info: ArgumentInfo | OptionInfo
    kind: type
    """Of the value, or of each of several."""
    repeatable: bool
    default: Any

    @property
    def required(self) -> bool:
        """Whether the command cannot do without."""
        return self.default is inspect.Parameter.empty

    @property
    def metavar(self) -> str:
        """What the help calls the value."""
        if self.info.metavar:
            return self.info.metavar
        is_argument = isinstance(self.info, ArgumentInfo)
        return self.name.upper() if is_argument else PLACEHOLDERS[self.kind]


def commands() -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield every command with its name, those of a group with the group's name before."""
    for name, command in COMMANDS.items():
        if isinstance(command, typer.Typer):
            for inner in command.registered_commands:
                if inner.callback is not None:
                    yield f"{name} {inner.name or inner.callback.__name__}", inner.callback
        else:
            yield name, command


def parameters(command: Callable[..., None]) -> list[Parameter]:
    """Return what a command takes, in order."""
    found = []
    for name, parameter in inspect.signature(command).parameters.items():
        if parameter.annotation is typer.Context:
            continue
        annotation, info = get_args(parameter.annotation)
        kind = _value_of(annotation)
        repeatable = get_origin(kind) is list
        if repeatable:
            (kind,) = get_args(kind)
        found.append(Parameter(name, info, kind, repeatable, parameter.default))
    return found


def _value_of(annotation: Any) -> Any:
    """Return a type without the None beside it."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    is_optional = len(kinds) == 1 and get_origin(annotation) is not list
    return kinds[0] if is_optional else annotation


def page() -> str:
    """Return the text of the page."""
    overview = [(f"[`{name}`](#rgbt-fusion-{name.replace(' ', '-')})", _sentence(command))
                for name, command in commands()]  # fmt: skip
    sections = [_section(name, command) for name, command in commands()]
    return "\n".join([TOP, to_markdown(Table(("command", ""), tuple(overview))), "", *sections])


def parse(example: str) -> dict[str, Any]:
    """Return what an example gives to its command.

    Raises:
        Exception: the command does not take this.
    """
    words = shlex.split(example)[1:]
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command.make_context(command.name, words).params


def _sentence(command: Callable[..., None]) -> str:
    return _paragraphs(command)[0]


def _paragraphs(command: Callable[..., None]) -> list[str]:
    return [" ".join(part.split()) for part in (inspect.getdoc(command) or "").split("\n\n")]


def _section(name: str, command: Callable[..., None]) -> str:
    taken = parameters(command)
    arguments = [one for one in taken if isinstance(one.info, ArgumentInfo)]
    options = [one for one in taken if isinstance(one.info, OptionInfo)]
    usage = " ".join(["rgbt-fusion", name, *map(_in_usage, arguments), "[OPTIONS]"])
    parts = [
        f"## rgbt-fusion {name}\n",
        "\n\n".join(_paragraphs(command)) + "\n",
        f"```bash\n{EXAMPLES[name]}\n```\n",
        f"Usage: `{usage}`\n",
    ]
    if arguments:
        rows = tuple((f"`{one.metavar}`", one.info.help) for one in arguments)
        parts.append(to_markdown(Table(("argument", ""), rows)) + "\n")
    for title, group in _panels(options).items():
        rows = tuple((f"`{_names(one)}`", _default(one), one.info.help) for one in group)
        parts.append(to_markdown(Table((title, "default", ""), rows)) + "\n")
    return "\n".join(parts)


def _panels(options: list[Parameter]) -> dict[str, list[Parameter]]:
    """Return the options by the panel that the help shows them in."""
    panels: dict[str, list[Parameter]] = {}
    for option in options:
        title = option.info.rich_help_panel
        heading = f"option: {title[0].lower()}{title[1:]}" if title else "option"
        panels.setdefault(heading, []).append(option)
    return panels


def _in_usage(argument: Parameter) -> str:
    shown = argument.metavar + ("..." if argument.repeatable else "")
    return shown if argument.required else f"[{shown}]"


def _names(option: Parameter) -> str:
    """Return how an option is written, with what stands behind it."""
    # typer keeps the first name that is declared where a default would stand
    declared = [option.info.default, *(getattr(option.info, "param_decls", None) or ())]
    given = [name for name in declared if isinstance(name, str)]
    names = ", ".join(given) or f"--{option.name.replace('_', '-')}"
    return names if option.kind is bool else f"{names} {option.metavar}"


def _default(option: Parameter) -> str:
    if option.required:
        return "required"
    if option.kind is bool or option.default in (None, ""):
        return ""
    return f"`{option.default}`"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
