"""Sphinx extension: one page per room of the package, with every public name of its modules."""

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import rgbt_fusion

MEMBERS = "   :members:\n   :exclude-members: extra_repr\n"

# in the order of use; a single file of the ground floor is a room too
ROOMS = (
    "layers",
    "losses",
    "ops",
    "compat",
    "models",
    "weights",
    "tracking",
    "alignment",
    "video",
    "frames",
    "data",
    "synthetic",
    "evaluation",
    "training",
    "export",
    "boxes",
    "shapes",
    "checks",
    "typed_module",
    "files",
    "benchmarking",
)


def modules_of(room: str) -> list[ModuleType]:
    """Return the modules of a room that name what is public in ``__all__``."""
    package = importlib.import_module(f"rgbt_fusion.{room}")
    names = [package.__name__]
    for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
        # the compiled library is no module, and the kernels import Triton
        if not found.name.endswith(("_cpu", "_kernels")):
            names.append(found.name)
    modules = [importlib.import_module(name) for name in names]
    return [module for module in modules if getattr(module, "__all__", None)]


def is_at_home(module: ModuleType, name: str) -> bool:
    """Return whether a module defines the name, rather than passing another module's on."""
    return getattr(getattr(module, name), "__module__", module.__name__) == module.__name__


def attribute_docstrings(module: ModuleType) -> set[str]:
    """Return the names of a module's data that have a docstring below them."""
    documented = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    return {name for _, name in documented}


def directive(module: ModuleType, name: str) -> str:
    """Return the directive that documents one name, under the shortest path it is imported by."""
    value = getattr(module, name)
    is_top_level = getattr(rgbt_fusion, name, None) is value
    path = f"rgbt_fusion.{name}" if is_top_level else f"{module.__name__}.{name}"
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, Exception) else "autoclass"
        # an alias shows whose alias it is, without the members
        members = MEMBERS if value.__name__ == name else ""
        return f".. {kind}:: {path}\n{members}"
    if inspect.isroutine(inspect.unwrap(value)):
        return f".. autofunction:: {path}\n"
    if name not in attribute_docstrings(module):
        raise ValueError(f"{module.__name__}.{name} must have a docstring below it")
    return f".. autodata:: {path}\n   :no-value:\n"


def page_of(room: str) -> str:
    """Return the text of a room's page."""
    package = importlib.import_module(f"rgbt_fusion.{room}")
    summary = (package.__doc__ or "").split("\n\n")[0]
    parts = [f"# {room}\n\n{summary}\n"]
    for module in modules_of(room):
        title = module.__name__.removeprefix("rgbt_fusion.")
        names = [name for name in module.__all__ if is_at_home(module, name)]
        directives = "\n".join(directive(module, name) for name in names)
        parts.append(f"## {title}\n\n```{{eval-rst}}\n{directives}```\n")
    return "\n".join(parts)


def write_pages(app: Sphinx) -> None:
    """Write the pages before Sphinx looks for its documents."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    for room in ROOMS:
        page = folder / f"{room}.md"
        text = page_of(room)
        # an untouched page is not read again by an incremental build
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the writer."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
