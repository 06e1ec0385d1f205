"""Imports TFX's launcher without what only executors need, so that a process for one node starts quickly.

A process that runs every node starts sooner too, because it imports only those components of TFX that its pipeline has
(`import_for_executors()`).

A plain import of `tfx.orchestration.portable.launcher` also imports tensorflow, apache_beam and every component of TFX.
That takes many seconds, which a cached or skipped node wastes. TFX's core, the package `ml-pipelines-sdk`, also works
without tensorflow and apache_beam. So `import_launcher()` hides them while it imports the core, replaces the package
`tfx.components` by a stand-in, and then stops hiding: whatever is imported later is real.

What the core concluded from their absence is corrected at once, and no class exists twice:

- `tfx.dsl.components.base.base_beam_executor` has `beam = None`: it gets a stand-in that imports the real module
  when it is used.
- `tfx.dsl.io.plugins.tensorflow_gfile` has not registered TensorFlow's files: it does when a path with a scheme, such
  as `gs://`, is used, or once a driver or an executor has imported tensorflow. Until then TFX's own plugin reads local
  files.
- `tfx.dsl.input_resolution.strategies.span_range_strategy` takes its own copy of a constant of `tfx.components`, of the
  same value.
- `tfx.orchestration.portable.beam_executor_operator` lacks a type for an annotation, and `tfx.utils.doc_controls`
  decorators for TensorFlow's documentation generator: nothing is lost.

If anything else notices their absence, or fails, the process restarts with a plain import, which is slow but safe.
`tests/component/test_quick_start.py` has a test for every assumption about TFX.
"""

from __future__ import annotations

import ast
import atexit
import functools
import importlib
import importlib.abc
import importlib.machinery
import inspect
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from absl import logging

import components  # noqa: F401  (settings that TensorFlow reads on import, whoever imports it)

# If this is set to anything, every import is a plain one.
PLAIN_START_VARIABLE = "WARMSTART_PLAIN_START"

# The third needs tensorflow, but only one of its constants is used; hidden, it does not import numpy for nothing.
HIDDEN = ("tensorflow", "apache_beam", "tfx.components.example_gen.utils")
# Modules of TFX that work without them, as explained above.
KNOWN_TO_GO_ON = frozenset(
    {
        "tfx.dsl.components.base.base_beam_executor",
        "tfx.dsl.input_resolution.strategies.span_range_strategy",
        "tfx.dsl.io.plugins.tensorflow_gfile",
        "tfx.orchestration.portable.beam_executor_operator",
        "tfx.utils.doc_controls",
    }
)
_COMPONENTS = "tfx.components"


@functools.cache
def import_launcher(hide: bool = True) -> bool:
    """Imports TFX's launcher and what else a node needs; call it before anything else of TFX is imported.

    Afterwards imports such as `from tfx.orchestration.portable import launcher` are free. Create launchers with
    `late_operators()`, or they import their executors when they are created.

    Args:
      hide: hide tensorflow and apache_beam; False: import everything at once, as TFX does. Everything is also imported
        if the environment variable WARMSTART_PLAIN_START is set, or if tensorflow or apache_beam is already imported.

    Returns:
      whether tensorflow and apache_beam were left out.
    """
    loaded = [name for name in HIDDEN if name in sys.modules]
    if not hide or loaded or os.environ.get(PLAIN_START_VARIABLE):
        _import_core()
        return False
    try:
        _import_core_hiding()
        _mend()
    except Exception as error:  # whatever it is, a plain start does not meet it, or shows it as it is
        _start_again_plainly(f"{type(error).__name__}: {error}")
    return True


def import_for_executors() -> None:
    """Completes `import_launcher()` in a process that will run executors; afterwards anything may be imported.

    It still avoids the package `tfx.components` as a whole, and with it the clients of Kubernetes and Keras Tuner.
    """
    if import_launcher():
        _run_code_of_components()
        import tensorflow  # noqa: F401

        _register_tensorflow_files()


def late_operators(executor_operators: Mapping[Any, Any] | None = None) -> dict[str, dict[Any, Callable[..., Any]]]:
    """Keyword arguments for `Launcher` that make it import a driver or an executor only to run it.

    TFX's own operators import it when the launcher is created, so a cached node would import it for nothing.

    Args:
      executor_operators: operators to use instead of TFX's own (`beam_operator.executor_operators`).
    """
    from tfx.orchestration.portable import launcher

    operators = {**launcher.DEFAULT_EXECUTOR_OPERATORS, **(executor_operators or {})}
    return {
        "custom_executor_operators": {
            spec: functools.partial(_LateExecutor, operator) for spec, operator in operators.items()
        },
        "custom_driver_operators": {
            spec: functools.partial(_LateDriver, operator)
            for spec, operator in launcher.DEFAULT_DRIVER_OPERATORS.items()
        },
    }


def finish(code: int) -> NoReturn:
    """Ends the process at once, without tearing down everything that was imported.

    Call it last, after closing every connection to ML Metadata (`with metadata.Metadata(...)`): no outer `finally` or
    `with` runs. It waits for threads, and runs the functions that are registered for exit.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _import_core() -> None:
    import tfx.dsl.compiler.constants
    import tfx.orchestration.local.runner_utils
    import tfx.orchestration.metadata
    import tfx.orchestration.portable.launcher
    import tfx.orchestration.portable.runtime_parameter_utils
    import tfx.proto.orchestration.pipeline_pb2  # noqa: F401
    from ml_metadata.metadata_store import metadata_store  # noqa: F401

    # TFX makes classes of its own for artifact types whose classes it does not see when it resolves inputs.
    import components.artifacts  # noqa: F401


def _import_core_hiding() -> None:
    """Imports the core while HIDDEN is hidden.

    Raises:
      ImportError: it cannot do without one of them.
      RuntimeError: a module works without one of them that is not known to.
    """
    hiding = _HidingFinder()
    sys.meta_path.insert(0, hiding)
    try:
        _import_core()
    finally:
        sys.meta_path.remove(hiding)
    for name, importing in hiding.missed:
        # The innermost module that is still there caught the error: those within it failed with it.
        went_on = next((module for module in importing if module in sys.modules), "")
        if went_on not in KNOWN_TO_GO_ON:
            raise RuntimeError(f"{went_on} works without {name}, which is not among the known cases")


class _HidingFinder(importlib.abc.MetaPathFinder):
    """Hides HIDDEN, and turns `tfx.components` into a package whose code runs on demand.

    missed: what was asked for in vain, and the modules that were being imported then, innermost first.
    """

    def __init__(self) -> None:
        self.missed: list[tuple[str, list[str]]] = []

    def find_spec(self, fullname, path=None, target=None):
        """Overrides MetaPathFinder.find_spec()."""
        if fullname in HIDDEN:
            self.missed.append((fullname, _importing_modules()))
            raise ModuleNotFoundError(f"{fullname} is hidden while TFX's launcher is imported", name=fullname)
        if fullname != _COMPONENTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _OnDemandLoader(spec.loader)
        return spec


def _importing_modules() -> list[str]:
    """Names of the modules whose code is running, innermost first, without those that do the importing."""
    names, frame = [], inspect.currentframe()
    while frame is not None:
        names.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return [name for name in names if name != __name__ and "importlib" not in name]


class _OnDemandLoader(importlib.abc.Loader):
    """Loads a package without running its code, which runs once a missing name is looked up in it (PEP 562)."""

    def __init__(self, loader: Any):
        self._loader, self._started, self._lock = loader, False, threading.RLock()

    def exec_module(self, module: ModuleType) -> None:
        """Overrides Loader.exec_module()."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        vars(module)["__getattr__"] = functools.partial(self._find, module)

    def _find(self, module: ModuleType, name: str) -> Any:
        # Names such as __wrapped__ are asked for by whoever looks a module over.
        is_special = name.startswith("__") and name != "__all__"
        with self._lock:
            if not self._started and not is_special:
                self._started = True
                try:
                    self._loader.exec_module(module)
                except BaseException:
                    self._started = False  # whoever asks next gets the error too
                    raise
            if name in vars(module):
                return vars(module)[name]
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")


def _mend() -> None:
    """Corrects what the core concluded from the absence of HIDDEN."""
    from tfx.dsl.components.base import base_beam_executor
    from tfx.dsl.io import filesystem_registry
    from tfx.dsl.io.plugins import tensorflow_gfile

    if base_beam_executor.beam is not None or tensorflow_gfile.TensorflowFilesystem is not None:
        raise RuntimeError("TFX found what was hidden")
    base_beam_executor.beam = _LateBeam()
    # Any priority behind that of TensorFlow's files, which take over when they are registered.
    filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(_RemoteFiles, priority=1000, use_as_fallback=True)


class _LateBeam:
    """A stand-in for the module `apache_beam` that imports it when it is used."""

    def __getattr__(self, name: str) -> Any:
        import apache_beam

        return getattr(apache_beam, name)


class _TensorflowFiles(type):
    def __getattr__(cls, name: str) -> Any:
        return getattr(_register_tensorflow_files(), name)


class _RemoteFiles(metaclass=_TensorflowFiles):
    """TensorFlow's file systems except the local one; TensorFlow is imported when one is used."""

    SUPPORTED_SCHEMES = ()


def _register_tensorflow_files() -> Any:
    """Registers TFX's file system that uses TensorFlow, which takes precedence for local files too."""
    from tfx.dsl.io.plugins import tensorflow_gfile

    if tensorflow_gfile.TensorflowFilesystem is None:
        importlib.reload(tensorflow_gfile)
    return tensorflow_gfile.TensorflowFilesystem


def _make_operator(operator_class: Callable[..., Any], *arguments: Any) -> Any:
    """An operator of TFX, which imports its driver or executor, with TFX in the state of a plain process."""
    _run_code_of_components()
    operator = operator_class(*arguments)
    if "tensorflow" in sys.modules:
        _register_tensorflow_files()
    return operator


def _run_code_of_components() -> None:
    """Runs those parts of the code of `tfx.components` that do more than export names, unless they have run."""
    import tfx.components

    if not only_exports(Path(tfx.components.__file__).read_text(encoding="utf-8")):
        tfx.components.__all__  # noqa: B018


def only_exports(source: str) -> bool:
    """Whether a package's `__init__` does nothing but import names of its own modules.

    That of `tfx.components` in TFX 1.16 is so. In TFX 1.21 it repairs other packages too, and has to run before an
    executor is imported.
    """
    return all(
        (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{_COMPONENTS}."))
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"])
        for node in ast.parse(source).body
    )


class _LateExecutor:
    """A stand-in for the operator of an executor, which is created only to run."""

    def __init__(self, operator_class: Callable[..., Any], executor_spec: Any, platform_config: Any = None):
        self._make = functools.partial(_make_operator, operator_class, executor_spec, platform_config)
        self._watcher_address: str | None = None

    def with_execution_watcher(self, execution_watcher_address: str) -> _LateExecutor:
        self._watcher_address = execution_watcher_address
        return self

    def run_executor(self, execution_info: Any) -> Any:
        operator = self._make()
        if self._watcher_address is not None:
            operator.with_execution_watcher(self._watcher_address)
        return operator.run_executor(execution_info)


class _LateDriver:
    """A stand-in for the operator of a driver, which is created only to run."""

    def __init__(self, operator_class: Callable[..., Any], driver_spec: Any, mlmd_connection: Any):
        self._make = functools.partial(_make_operator, operator_class, driver_spec, mlmd_connection)

    def run_driver(self, execution_info: Any) -> Any:
        return self._make().run_driver(execution_info)


def _start_again_plainly(reason: str) -> NoReturn:
    """Replaces this process by one that runs the same command with plain imports.

    Modules that were imported in part, or without what they need, cannot be taken back with certainty.
    """
    logging.warning("TFX could not be started quickly (%s); starting again, and slowly", reason)
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[PLAIN_START_VARIABLE] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
