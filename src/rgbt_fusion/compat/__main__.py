"""``python -m rgbt_fusion.compat script.py args...``: run a script on the names served here."""

import runpy
import sys
from pathlib import Path

from rgbt_fusion.compat import install, on_cpu, report

__all__ = ["main"]

USAGE = "usage: python -m rgbt_fusion.compat script.py [arguments], or -m module [arguments]"


def main(arguments: list[str]) -> None:
    """Run a script or a module as ``__main__`` and print the report to the standard error."""
    as_module = arguments[:1] == ["-m"]
    given = arguments[1:] if as_module else arguments
    if not given:
        raise SystemExit(USAGE)
    target = given[0]
    install()
    sys.argv = given
    try:
        with on_cpu():
            if as_module:
                sys.path[0] = str(Path.cwd())
                runpy.run_module(target, run_name="__main__", alter_sys=True)
            else:
                sys.path[0] = str(Path(target).resolve().parent)
                runpy.run_path(target, run_name="__main__")
    finally:
        sys.stderr.write(f"{report()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
