"""Which foreign modules are served, how they come into ``sys.modules``, and the report."""

import importlib
import importlib.util
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from rgbt_fusion.compat.record import CALLS, REFUSED, recorded

__all__ = ["Report", "install", "report", "uninstall"]

ORIGIN = "rgbt_fusion.compat"
"""What the spec of every served module names as its origin."""

VERSIONS = {"mamba_ssm": "2.3.0+rgbt.fusion", "causal_conv1d": "1.6.0+rgbt.fusion"}
"""The versions that the served packages give: those whose names they have, and that they are ours.
"""

EXTENSIONS: dict[str, dict[str, str]] = {
    "selective_scan_cuda": {"fwd": "scan_fwd", "bwd": "scan_bwd"},
    "selective_scan_cuda_core": {"fwd": "core_scan_fwd", "bwd": "core_scan_bwd"},
    "selective_scan_cuda_oflex": {"fwd": "oflex_scan_fwd", "bwd": "oflex_scan_bwd"},
    "causal_conv1d_cuda": {
        "causal_conv1d_fwd": "conv_fwd",
        "causal_conv1d_bwd": "conv_bwd",
        "causal_conv1d_update": "conv_update",
    },
}
"""The compiled extensions: their functions, and those of our ``extensions`` that stand for them."""

_SCAN = {
    "selective_scan_fn": "mamba_functions",
    "selective_scan_ref": "mamba_functions",
    "mamba_inner_fn": "mamba_functions",
}
_NORMS = {
    "RMSNorm": "norms",
    "rms_norm_fn": "norms",
    "layer_norm_fn": "norms",
    "rms_norm_ref": "norms",
    "layer_norm_ref": "norms",
}
PACKAGES: dict[str, dict[str, str]] = {
    "mamba_ssm": {
        "Mamba": "mamba_module",
        "selective_scan_fn": "mamba_functions",
        "mamba_inner_fn": "mamba_functions",
    },
    "mamba_ssm.modules": {},
    "mamba_ssm.modules.mamba_simple": {"Mamba": "mamba_module"},
    "mamba_ssm.ops": {},
    "mamba_ssm.ops.selective_scan_interface": _SCAN,
    "mamba_ssm.ops.triton": {},
    "mamba_ssm.ops.triton.selective_state_update": {"selective_state_update": "mamba_functions"},
    "mamba_ssm.ops.triton.layer_norm": _NORMS,
    "mamba_ssm.ops.triton.layernorm": _NORMS,
    "mamba_ssm.ops.triton.ssd_combined": {"mamba_chunk_scan_combined": "mamba_functions"},
    "causal_conv1d": {
        "causal_conv1d_fn": "mamba_functions",
        "causal_conv1d_update": "mamba_functions",
    },
    "causal_conv1d.causal_conv1d_interface": {
        "causal_conv1d_fn": "mamba_functions",
        "causal_conv1d_ref": "mamba_functions",
        "causal_conv1d_update": "mamba_functions",
    },
    "causal_conv1d.causal_conv1d_varlen": {"causal_conv1d_varlen_states": "mamba_functions"},
    "causal_conv1d.cpp_functions": {
        "causal_conv1d_fwd_function": "mamba_functions",
        "causal_conv1d_bwd_function": "mamba_functions",
        "causal_conv1d_update_function": "mamba_functions",
    },
}
"""The modules of the two packages: their names, and the files here that hold them."""


@dataclass(frozen=True)
class Report:
    """What :func:`report` says. Printed, it is one line per name."""

    ours: tuple[str, ...]
    """The modules that stand in ``sys.modules`` and are ours."""
    theirs: dict[str, str]
    """The modules that were left alone, and why."""
    calls: dict[str, int] = field(default_factory=dict)
    """How often each function was called."""
    refused: dict[str, str] = field(default_factory=dict)
    """The last error that each function raised."""

    def __str__(self) -> str:
        lines = [f"ours: {', '.join(self.ours) or 'nothing was imported'}"]
        for name, why in self.theirs.items():
            lines.append(f"theirs: {name} ({why})")
        for name, count in sorted(self.calls.items()):
            lines.append(f"called: {name}, {count} times")
        for name, why in sorted(self.refused.items()):
            lines.append(f"refused: {name}: {why}")
        return "\n".join(lines)


def install(*, packages: bool = True, replace: Collection[str] = ()) -> None:
    """Serve the names of public Mamba code from this library, where the real ones are missing.

    Puts the compiled extensions that cannot be imported into ``sys.modules``:
    ``selective_scan_cuda``, its variants ``_core`` and ``_oflex``, and ``causal_conv1d_cuda``. Then
    ``mamba_ssm`` and ``causal_conv1d`` are found here where no other finder finds them: a client
    that brings its own Python keeps it. A name that is not served raises ``ImportError``, as if the
    package were too old. A second call changes nothing.

    Args:
        packages: also serve the two Python packages, not only the extensions.
        replace: modules to serve even where a real one exists, such as
            ``"mamba_ssm.ops.triton.layernorm"``, whose Triton kernels need a GPU.

    Raises:
        ValueError: ``replace`` holds a name that is not served.

    Example:
        >>> from rgbt_fusion import compat
        >>> compat.install()
        >>> import selective_scan_cuda
        >>> compat.uninstall()
    """
    for name in replace:
        if name not in EXTENSIONS and name not in PACKAGES:
            known = ", ".join((*EXTENSIONS, *PACKAGES))
            raise ValueError(f"replace must hold names of {known}, got {name!r}")
    for name in EXTENSIONS:
        if name in _SERVED:
            continue
        why = "" if name in replace else _imports(name)
        if why:
            _THEIRS[name] = why
        else:
            _serve(name)
    for name in PACKAGES:
        if name in replace and name not in _SERVED:
            _serve(name)
    if packages and _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
        importlib.invalidate_caches()


def uninstall() -> None:
    """Take out of ``sys.modules`` what :func:`install` put there, and forget what was counted."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name in tuple(_SERVED):
        module, before = _SERVED.pop(name)
        if sys.modules.get(name) is not module:
            continue
        if before is _ABSENT:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    _THEIRS.clear()
    CALLS.clear()
    REFUSED.clear()


def report() -> Report:
    """Say which names are ours, which calls were made, and what was refused and why.

    Example:
        >>> from rgbt_fusion import compat
        >>> compat.report().calls
        {}
    """
    ours = [name for name, (module, _) in _SERVED.items() if sys.modules.get(name) is module]
    theirs = dict(_THEIRS)
    for name in PACKAGES:
        module = sys.modules.get(name)
        if module is not None and name not in ours and "." not in name:
            theirs[name] = "found before ours"
    return Report(tuple(ours), theirs, dict(CALLS), dict(REFUSED))


_ABSENT: Any = object()
_SERVED: dict[str, tuple[ModuleType, Any]] = {}
"""Our modules by name, and what stood in ``sys.modules`` before."""
_THEIRS: dict[str, str] = {}
"""The extensions that were left alone, and why."""


def _imports(name: str) -> str:
    """Say how a real module is found, or nothing where it is missing or does not load."""
    if sys.modules.get(name) is not None:
        return "imported before"
    before = set(sys.modules)
    try:
        if importlib.util.find_spec(name) is None:
            return ""
        importlib.import_module(name)
    except Exception as error:  # a broken extension raises anything from ImportError to OSError
        REFUSED[name] = f"the real one does not load: {error}"
        return ""
    finally:
        for new in set(sys.modules) - before:
            if new.split(".")[0] == name:
                del sys.modules[new]
    return "it imports"


def _serve(name: str) -> ModuleType:
    """Put our module of this name into ``sys.modules`` and return it."""
    module = ModuleType(name, f"{name}, served by rgbt_fusion.compat.")
    is_package = any(other.startswith(f"{name}.") for other in PACKAGES)
    module.__spec__ = ModuleSpec(name, _LOADER, origin=ORIGIN, is_package=is_package)
    module.__loader__ = _LOADER
    if is_package:
        module.__path__ = []
        module.__package__ = name
    else:
        module.__package__ = name.rpartition(".")[0]
    _fill(module)
    _SERVED[name] = (module, sys.modules.get(name, _ABSENT))
    sys.modules[name] = module
    return module


def _fill(module: ModuleType) -> None:
    """Give a module its functions, each of which is counted."""
    name = module.__name__
    if name in EXTENSIONS:
        extensions = importlib.import_module("rgbt_fusion.compat.extensions")
        for foreign, own in EXTENSIONS[name].items():
            setattr(module, foreign, recorded(f"{name}.{foreign}")(getattr(extensions, own)))
        return
    if name in VERSIONS:
        module.__dict__["__version__"] = VERSIONS[name]
    for attribute, file in PACKAGES[name].items():
        value = getattr(importlib.import_module(f"rgbt_fusion.compat.{file}"), attribute)
        if not isinstance(value, type):
            value = recorded(f"{name}.{attribute}")(value)
        setattr(module, attribute, value)
    # mamba_ssm.ops.triton is reached from mamba_ssm by attribute as well
    for other in PACKAGES:
        parent, _, child = other.rpartition(".")
        if parent == name:
            setattr(module, child, sys.modules.get(other) or _serve(other))


class _Loader(Loader):
    """Hand out our modules, which are made whole."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _SERVED[spec.name][0] if spec.name in _SERVED else _serve(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module is filled already."""


class _Finder(MetaPathFinder):
    """Find the two packages, behind every other finder."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent = fullname.partition(".")[0]
        if fullname not in PACKAGES or (parent != fullname and parent not in _SERVED):
            # inside a client's own package only the client's modules are found
            return None
        is_package = any(other.startswith(f"{fullname}.") for other in PACKAGES)
        return ModuleSpec(fullname, _LOADER, origin=ORIGIN, is_package=is_package)


_LOADER = _Loader()
_FINDER = _Finder()
