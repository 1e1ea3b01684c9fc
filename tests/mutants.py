"""Change the library in small ways, one at a time, and see whether its tests notice.

    python tests/mutants.py run [COUNT]    300 by default, resumed where a run was ended
    python tests/mutants.py again [COUNT]  the survivors once more, after the tests were mended
    python tests/mutants.py report         counts, and each change that no test noticed

A mutant is one change of one expression: a comparison, an operator, a number, a default, a
branch. ``MUTANT_SEED`` draws others, ``MUTANT_FOLDER`` says where results are kept (``.mutants``).
Each runs in a fork of one process that has imported torch, against the tests of its module alone:
the file of the same name and those of its folder that import it, as far as they take 20 seconds of
CPU together.
``equivalent_mutants.txt`` lists changes that no test can notice, each with its reason.
"""

import ast
import copy
import functools
import importlib.abc
import importlib.machinery
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "rgbt_fusion"
PACKAGES = ("ops", "layers", "losses", "models", "evaluation", "tracking", "data")
# what Triton compiles is read from the file, not from the module
LEFT_OUT = ("ops/triton",)
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.txt")
FOLDER = Path(os.environ.get("MUTANT_FOLDER", ROOT / ".mutants"))

# tested through what imports them
TESTED_BY = {
    "ops/batching.py": "ops/test_transforms.py",
    "ops/conv_op.py": "ops/test_causal_conv1d.py",
    "ops/native/backend.py": "ops/test_native.py",
    "ops/prepared_conv.py": "ops/test_prepared.py",
    "ops/prepared_scan.py": "ops/test_prepared.py",
    "ops/scan_op.py": "ops/test_selective_scan.py",
}

# tested there as well, through what builds it
ALSO_TESTED_BY = {"models/tpmri.py": "models/test_inference.py"}

MOST_TEST_SECONDS = 20.0
"""CPU seconds that the tests of one module take together, at most, unless one file takes more; no
further file is taken after half of it."""

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        path: of the file, in the package.
        place: function or class that is changed.
        number: which of the changes of the file it is, in the order of the tree.
        line: where, in the file as it is now.
        change: the expression before and after.
    """

    path: str
    place: str
    number: int
    line: int
    change: str

    @property
    def name(self) -> str:
        """What stays the same while lines above are edited."""
        return f"{self.path}: {self.place}: {self.change}"


# ---- changes


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield each changed form of one node."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in COMPARISONS:
        new.ops[0] = COMPARISONS[type(new.ops[0])]()
        yield new
    elif isinstance(new, ast.BinOp | ast.AugAssign) and type(new.op) in OPERATORS:
        if not _joins_text(new):
            new.op = OPERATORS[type(new.op)]()
            yield new
    elif isinstance(new, ast.BoolOp):
        new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
        yield new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not | ast.USub):
        yield new.operand
    elif isinstance(new, ast.IfExp):
        new.body, new.orelse = new.orelse, new.body
        yield new
    elif isinstance(new, ast.If | ast.While) and not isinstance(new.test, ast.Compare | ast.BoolOp):
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield new
    elif isinstance(new, ast.Constant):
        yield from _other_constants(new)


def _joins_text(node: ast.BinOp | ast.AugAssign) -> bool:
    parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
    return any(isinstance(part, ast.JoinedStr) or _is_text(part) for part in parts)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _other_constants(node: ast.Constant) -> Iterator[ast.Constant]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
    elif isinstance(node.value, float):
        yield ast.Constant(node.value * 2 if node.value else 1.0)


def changeable(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return the nodes that may be changed, in order, each with the name of where it is.

    Annotations, docstrings, what is raised and what only looks for a fault of ours are left out.
    """
    found: list[tuple[ast.AST, str]] = []

    def visit(node: ast.AST, place: str) -> None:
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.keyword) and node.arg in ("strict", "stacklevel"):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            place = f"{place}.{node.name}".lstrip(".")
        elif isinstance(node, ast.expr | ast.stmt):
            found.append((node, place or "module"))
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, place)

    visit(tree, "")
    return found


def mutants_of(path: str) -> list[Mutant]:
    """Return all changes of a file of the package."""
    tree = ast.parse((SOURCE / path).read_text())
    found: list[Mutant] = []
    seen: Counter[tuple[str, str]] = Counter()
    for node, place in changeable(tree):
        for new in replacements(node):
            change = f"{_shown(node)} -> {_shown(new)}"
            seen[place, change] += 1
            if seen[place, change] > 1:
                change += f" (no. {seen[place, change]})"
            found.append(Mutant(path, place, len(found), getattr(node, "lineno", 0), change))
    return found


def _shown(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
    return ast.unparse(ast.fix_missing_locations(node)).replace("\n", " ")[:150]


class _Change(ast.NodeTransformer):
    """Puts one changed node in the place of the one that is there."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self.new, node) if node is self.old else self.generic_visit(node)


def changed_tree(mutant: Mutant) -> ast.Module:
    """Return the file with its change."""
    tree = ast.parse((SOURCE / mutant.path).read_text())
    number = 0
    for node, _ in changeable(tree):
        for new in replacements(node):
            if number == mutant.number:
                _Change(node, new).visit(tree)
                return ast.fix_missing_locations(tree)
            number += 1
    raise ValueError(f"{mutant.path} has no change {mutant.number}")


def draw(count: int, seed: int) -> list[Mutant]:
    """Draw from all packages evenly, from each of a package's changes with equal chance."""
    dice = random.Random(seed)
    drawn: list[list[Mutant]] = []
    for package in PACKAGES:
        paths = sorted((SOURCE / package).rglob("*.py"))
        names = [str(path.relative_to(SOURCE)) for path in paths]
        every = [one for name in names if not name.startswith(LEFT_OUT) for one in mutants_of(name)]
        drawn.append(dice.sample(every, min(len(every), -(-count // len(PACKAGES)))))
    # one of each package in turn, so that a run that is ended early has seen all of them
    turns = [turn[i] for i in range(max(map(len, drawn))) for turn in drawn if i < len(turn)]
    return turns[:count]


# ---- tests


def module_name(path: str) -> str:
    """Return the dotted name of a file of the package."""
    parts = ("rgbt_fusion", *Path(path).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tests_of(path: str) -> list[Path]:
    """Return the tests of a module: of its own name first, then those beside it that import it."""
    module = module_name(path)
    folder = ROOT / "tests" / Path(path).parts[0]
    own = folder / f"test_{Path(path).stem}.py"
    if path in TESTED_BY:
        own = ROOT / "tests" / TESTED_BY[path]
    wanted = {module, *public_names(module)}
    importing = [file for file, names in imports_of_tests().items() if names & wanted]
    # those of the same part of the library, and others only where there is none
    near = [file for file in importing if file.parent == folder and file != own]
    others = near if near or own.exists() else importing
    if path.startswith("layers/"):
        of_every_layer = [folder / "test_shown_options.py", folder / "test_parameters.py"]
        others = of_every_layer + [file for file in others if file not in of_every_layer]
    if path in ALSO_TESTED_BY:
        others.insert(0, ROOT / "tests" / ALSO_TESTED_BY[path])
    return [own, *others] if own.exists() else others


@functools.cache
def imports_of_tests() -> dict[Path, set[str]]:
    """Return the dotted names that each test file imports from the package."""
    found = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        names: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rgbt_fusion"):
                names |= {
                    str(node.module),
                    *(f"{node.module}.{alias.name}" for alias in node.names),
                }
        found[file] = names
    return found


@functools.cache
def public_names(module: str) -> set[str]:
    """Return the names of `rgbt_fusion` itself that come from a module."""
    found = set()
    for node in ast.walk(ast.parse((SOURCE / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == module:
            found |= {f"rgbt_fusion.{alias.name}" for alias in node.names}
    return found


# ---- runs


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed tree."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = module_name(mutant.path)

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        spec.loader.get_code = lambda _: compile(changed_tree(self.mutant), spec.origin, "exec")
        return spec


def run_tests(files: list[Path], mutant: Mutant | None, cpu_seconds: float) -> tuple[str, float]:
    """Run tests in a fork of this process, which has not imported the package.

    Returns:
        ``"passed"``, ``"failed"`` or ``"endless"`` (more CPU than it may take), and CPU seconds.
    """
    log = FOLDER / "last.log"
    start = _cpu_of_children()
    process = os.fork()
    if not process:
        _become_a_run(files, mutant, cpu_seconds, log)
    _, status = os.waitpid(process, 0)
    seconds = _cpu_of_children() - start
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return "passed", seconds
    return ("endless" if code < 0 and seconds >= cpu_seconds else "failed"), seconds


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _become_a_run(files: list[Path], mutant: Mutant | None, cpu_seconds: float, log: Path) -> None:
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        limit = int(cpu_seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        if mutant:
            sys.meta_path.insert(0, _Mutated(mutant))
        import pytest

        options = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-m", "not slow"]
        code = int(pytest.main([*options, *map(str, files)]))
    finally:
        sys.stdout.flush()
        os._exit(code)


SURVIVED = ("passed", "no tests")


class Results:
    """What was found so far, a line of JSON per run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "results.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def add(self, **row: object) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def of_mutant(self, mutant: Mutant) -> dict | None:
        """Return the last row of a mutant."""
        rows = [row for row in self.rows if row.get("name") == mutant.name]
        return rows[-1] if rows else None

    def seconds_of(self, file: Path) -> float | None:
        """Return what a test file takes without a change; None where it fails."""
        name = str(file.relative_to(ROOT))
        row = next((row for row in self.rows if row.get("file") == name), None)
        if row is None:
            outcome, seconds = run_tests([file], None, 600.0)
            self.add(file=name, outcome=outcome, seconds=round(seconds, 1))
            row = self.rows[-1]
        return row["seconds"] if row["outcome"] == "passed" else None


def chosen_tests(path: str, results: Results) -> tuple[list[Path], float]:
    """Return the tests to run for a module, and their CPU seconds without a change."""
    chosen: list[Path] = []
    total = 0.0
    for file in tests_of(path):
        if total >= MOST_TEST_SECONDS / 2:
            break
        seconds = results.seconds_of(file)
        if seconds is not None and (not chosen or total + seconds <= MOST_TEST_SECONDS):
            chosen.append(file)
            total += seconds
    return chosen, total


def run(count: int, *, again: bool) -> None:
    """Run the mutants that have no result yet, or again those that survived."""
    # imported once, for all forks; the package itself comes with each of them
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import torch

    torch.set_num_threads(1)
    results = Results(FOLDER)
    for mutant in draw(count, seed()):
        row = results.of_mutant(mutant)
        survived = row is not None and row["outcome"] in SURVIVED
        wanted = survived if again else row is None
        if not wanted:
            continue
        tests, usual = chosen_tests(mutant.path, results)
        begin = time.monotonic()
        if tests:
            outcome, _ = run_tests(tests, mutant, 5 * usual + 10)
        else:
            outcome = "no tests"
        seconds = round(time.monotonic() - begin, 1)
        results.add(name=mutant.name, outcome=outcome, seconds=seconds, **asdict(mutant))
        print(f"{outcome:8} {seconds:6} s  {mutant.name}", flush=True)
    report(count)


def seed() -> int:
    """Return the seed that draws the mutants."""
    return int(os.environ.get("MUTANT_SEED", "1"))


def equivalent() -> dict[str, str]:
    """Return the reason of each mutant that no test can notice."""
    rows = [line.split(" | ") for line in EQUIVALENT.read_text().splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def report(count: int) -> None:
    """Print the counts and every mutant that survived."""
    results = Results(FOLDER)
    reasons = equivalent()
    outcomes: Counter[str] = Counter()
    for mutant in draw(count, seed()):
        row = results.of_mutant(mutant)
        outcome = row["outcome"] if row else "not run"
        if outcome == "passed" and mutant.name in reasons:
            outcome = "equivalent"
        outcomes[outcome] += 1
        if outcome in SURVIVED:
            print(f"survived: src/rgbt_fusion/{mutant.path}:{mutant.line}\n    {mutant.name}")
    killed = outcomes["failed"] + outcomes["endless"]
    told = killed + outcomes["passed"] + outcomes["no tests"]
    print(", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items())))
    print(
        f"killed: {killed} of {told} that are not equivalent ({100 * killed / max(told, 1):.1f} %)"
    )


if __name__ == "__main__":
    command = (sys.argv[1:] or [""])[0]
    wanted = int((sys.argv[2:] or ["300"])[0])
    if command in ("run", "again"):
        run(wanted, again=command == "again")
    elif command == "report":
        report(wanted)
    else:
        raise SystemExit(__doc__)
