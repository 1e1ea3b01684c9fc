"""Compile the kernels with other versions of Triton, without a card, and hold them to limits.

Each version lies in a folder of its own, and is not installed:

    pip install --no-deps --target /tmp/triton-3.6 triton==3.6.0
    python tests/ops/triton_versions.py /tmp/triton-3.6 ...

Without folders, the installed version is asked; numbers choose among the cards. Prints a row per
version, kernel and card; the exit status is 1 where a kernel does not compile, or takes more than
the limits.
"""

import os
import subprocess
import sys
from pathlib import Path

CARDS = (80, 90, 100)
MOST_REGISTERS = 255
MOST_STACK = 64
"""Bytes; with 16 states in bfloat16 what is kept there is kept outside of the loops."""
MOST_SHARED = 4096
OPS = {
    "scan forward": "scan forward",
    "scan forward, chunks": "scan forward",
    "scan backward": "scan backward",
    "conv forward": "conv forward",
    "conv backward": "conv backward",
}


def ask(folder: str, cards: list[str]) -> int:
    """Compile with the Triton of a folder, in a process of its own."""
    paths = [folder, str(Path(__file__).parents[1]), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, __file__, "--here", *cards]
    return subprocess.run(command, env=environment).returncode


def compile_here(cards: list[int]) -> int:
    """Compile with the Triton that is imported; return how many kernels fail."""
    try:
        import triton
    except ImportError as error:
        print(f"| not installed: {error} |")
        return 1
    from rgbt_fusion.ops.triton.backend import why_not_installed

    if reason := why_not_installed():
        print(f"| {triton.__version__} | refused: {reason} |")
        return 0
    from ops.triton_offline import CASES, compile_launch, launches_of

    failures = 0
    for name, op in OPS.items():
        for kernel, launch in launches_of(CASES[name], op).items():
            for card in cards:
                try:
                    code = compile_launch(launch, card)
                except Exception as error:  # a compiler fails with anything
                    said = str(error).strip().splitlines() or [""]
                    figures, fine = f"{type(error).__name__}: {said[-1][:80]}", False
                else:
                    fine = (
                        code.registers <= MOST_REGISTERS
                        and code.stack <= MOST_STACK
                        and code.shared <= MOST_SHARED
                    )
                    figures = f"{code.registers} | {code.stack} | {code.shared}"
                failures += not fine
                verdict = "" if fine else " over the limits"
                print(
                    f"| {triton.__version__} | {name} | {kernel} | {card} | {figures} |{verdict}",
                    flush=True,
                )
    return failures


def main(arguments: list[str]) -> int:
    """Ask every folder, or the installed version."""
    cards = [argument for argument in arguments if argument.isdigit()] or list(map(str, CARDS))
    folders = [argument for argument in arguments if not argument.isdigit()]
    if folders == ["--here"]:
        return min(compile_here(list(map(int, cards))), 1)
    print("| Triton | case | kernel | sm | registers | stack | shared |")
    print("|---|---|---|---|---|---|---|", flush=True)
    installed = str(Path(__file__).parents[1])
    return max([ask(folder, cards) for folder in folders or [installed]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
