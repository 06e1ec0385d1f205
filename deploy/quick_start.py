"""Defers the imports of TensorFlow and Apache Beam until something of them is used, so that a command starts quickly.

TFX's core imports both, and every component of TFX, which takes many seconds. A step that comes from the cache uses
none of them, and neither does a whole run of cached steps. So `import_launcher()` imports the core while the packages
in DEFERRED are stand-ins: modules without content that run the package's own code once an attribute of it, or one of
its submodules, is asked for. From then on they are the packages. No class exists twice, and whoever asks early only
loses time.

What TFX's core concludes meanwhile is corrected once the code has run (`_correct`). Until then TFX's own plugin reads
local files instead of TensorFlow's. `tests/component/test_quick_start.py` has a test for every assumption about TFX.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import functools
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import components  # noqa: F401  (settings that TensorFlow reads on import, whoever imports it)

# If this is set to anything, every import is a plain one.
PLAIN_START_VARIABLE = "WARMSTART_PLAIN_START"

_COMPONENTS = "tfx.components"
# Package -> those parts that need nothing of the package's own code: messages, marks for documentation, components.
DEFERRED: dict[str, tuple[str, ...]] = {
    "tensorflow": ("tensorflow.core", "tensorflow.tools"),
    "apache_beam": (),
    "tensorflow_data_validation": ("tensorflow_data_validation.anomalies",),
    "tensorflow_model_analysis": ("tensorflow_model_analysis.proto",),
    "docker": (),
    _COMPONENTS: (_COMPONENTS,),
}
# Priorities of file systems; TFX's own are above 0, and the lowest is asked first.
_LOCAL_FILES, _TENSORFLOW_FILES = -1, -2
# As many bring so many objects that a collection must not look at them again and again.
_MANY_MODULES = 200


def _is_tensor(value: Any) -> bool:
    """In the place of `tensorflow.is_tensor`, which matplotlib asks for each value."""
    found = vars(sys.modules["tensorflow"]).get("is_tensor", _is_tensor)
    return found is not _is_tensor and found(value)  # there are no tensors before the package's code has run


class _Pipeline:
    """In the place of `apache_beam.Pipeline`, which TFX's core asks for only to annotate with it."""


@functools.cache
def import_launcher(defer: bool = True) -> bool:
    """Imports TFX's launcher and what else a node needs; call it before anything else of TFX is imported.

    Afterwards imports such as `from tfx.orchestration.portable import launcher` are free. Create launchers with
    `late_operators()`, or they import their executors when they are created.

    Args:
      defer: defer the imports of DEFERRED; False: import everything at once, as TFX does. That is also done if the
        environment variable WARMSTART_PLAIN_START is set, or if one of them is already imported.

    Returns:
      whether they are deferred.
    """
    if not defer or os.environ.get(PLAIN_START_VARIABLE) or any(name in sys.modules for name in DEFERRED):
        _import_core()
        return False
    sys.meta_path.insert(0, _finder)
    import apache_beam
    import tensorflow_model_analysis
    from tensorflow_model_analysis.proto import config_pb2

    # What the core asks for at once, as annotations and as the type of a parameter.
    vars(apache_beam)["Pipeline"] = _Pipeline
    vars(tensorflow_model_analysis)["sdk"] = SimpleNamespace(EvalConfig=config_pb2.EvalConfig)
    _import_core()
    del vars(apache_beam)["Pipeline"], vars(tensorflow_model_analysis)["sdk"]
    from tfx.dsl.io import filesystem_registry
    from tfx.dsl.io.plugins.local import LocalFilesystem

    filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(LocalFilesystem, _LOCAL_FILES)
    vars(sys.modules["tensorflow"])["is_tensor"] = _is_tensor
    return True


def deferred() -> list[str]:
    """The packages of DEFERRED whose own code has not run; empty after a plain start."""
    return [name for name, loader in _finder.loaders.items() if not loader.started]


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Imports of executors within it are quicker: they create hardly any garbage, so none is looked for."""
    import_launcher()
    modules = len(sys.modules)
    gc.disable()
    try:
        _run_code_of_components()
        yield
    finally:
        if len(sys.modules) > modules + _MANY_MODULES:
            gc.freeze()
        gc.enable()


def late_operators(
    executor_operators: Mapping[Any, Any] | None = None, before: Callable[[], None] = lambda: None
) -> dict[str, dict[Any, Callable[..., Any]]]:
    """Keyword arguments for `Launcher` that make it import a driver or an executor only to run it.

    TFX's own operators import it when the launcher is created, so a cached node would import it for nothing.

    Args:
      executor_operators: operators to use instead of TFX's own (`beam_operator.executor_operators`).
      before: called before an executor is imported and run.
    """
    from tfx.orchestration.portable import launcher

    operators = {**launcher.DEFAULT_EXECUTOR_OPERATORS, **(executor_operators or {})}
    return {
        "custom_executor_operators": {
            spec: functools.partial(_LateExecutor, operator, before) for spec, operator in operators.items()
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
    import tfx.proto.orchestration.pipeline_pb2
    import tfx.types.standard_component_specs  # noqa: F401
    from ml_metadata.metadata_store import metadata_store  # noqa: F401
    from tfx.dsl.component.experimental import decorators  # noqa: F401

    # TFX makes classes of its own for artifact types whose classes it does not see when it resolves inputs.
    import components.artifacts  # noqa: F401


class _DeferringFinder(importlib.abc.MetaPathFinder):
    """Finds the packages in DEFERRED as stand-ins, and makes them real before one of their submodules is imported."""

    def __init__(self) -> None:
        self.loaders: dict[str, _DeferringLoader] = {}

    def find_spec(self, fullname, path=None, target=None):
        """Overrides MetaPathFinder.find_spec()."""
        if fullname in DEFERRED:
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            if spec is not None and spec.loader is not None:
                spec.loader = self.loaders[fullname] = _DeferringLoader(spec.loader)
            return spec
        package = fullname.rpartition(".")[0]
        if package not in self.loaders or fullname.startswith(DEFERRED[package]):
            return None
        if not self.loaders[package].run(sys.modules[package]):
            return None
        if fullname in sys.modules:  # the package itself has imported it meanwhile
            return importlib.util.spec_from_loader(fullname, _Imported(sys.modules[fullname]))
        return importlib.machinery.PathFinder.find_spec(fullname, sys.modules[package].__path__)


_finder = _DeferringFinder()


class _DeferringLoader(importlib.abc.Loader):
    """Loads a package without running its code, which runs once a missing name is looked up in it (PEP 562)."""

    def __init__(self, loader: Any):
        self._loader, self._lock = loader, threading.RLock()
        self.started = False

    def exec_module(self, module: ModuleType) -> None:
        """Overrides Loader.exec_module()."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        vars(module)["__getattr__"] = functools.partial(self._find, module)

    def run(self, module: ModuleType) -> bool:
        """Runs the package's code, unless it has run or is running; says whether it did."""
        with self._lock:
            if self.started:
                return False
            self.started = True
            try:
                self._loader.exec_module(module)
            except BaseException:
                self.started = False  # whoever asks next gets the error too
                raise
            _correct(module)
            return True

    def _find(self, module: ModuleType, name: str) -> Any:
        if name == "__all__" or not name.startswith("__"):  # __wrapped__ is asked for by whoever looks a module over
            self.run(module)
        if name in vars(module):
            return vars(module)[name]
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")


class _Imported(importlib.abc.Loader):
    """Gives a module that is there, as it is."""

    def __init__(self, module: ModuleType):
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec):
        """Overrides Loader.create_module()."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Overrides Loader.exec_module()."""
        module.__spec__ = self._spec


def _correct(package: ModuleType) -> None:
    """Leaves TFX's core as if the package had been imported at once."""
    if package.__name__ == "apache_beam":
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get("_BeamPipeline") is _Pipeline:
                vars(module)["_BeamPipeline"] = package.Pipeline
    elif package.__name__ == "tensorflow":
        from tfx.dsl.io import filesystem_registry
        from tfx.dsl.io.plugins.tensorflow_gfile import TensorflowFilesystem

        registry = filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY
        registry.register(TensorflowFilesystem, _TENSORFLOW_FILES, use_as_fallback=True)


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


def _make_operator(operator_class: Callable[..., Any], *arguments: Any) -> Any:
    """An operator of TFX, which imports its driver or executor."""
    with importing():
        return operator_class(*arguments)


class _LateExecutor:
    """A stand-in for the operator of an executor, which is created only to run."""

    def __init__(
        self,
        operator_class: Callable[..., Any],
        before: Callable[[], None],
        executor_spec: Any,
        platform_config: Any = None,
    ):
        self._make = functools.partial(_make_operator, operator_class, executor_spec, platform_config)
        self._before = before
        self._watcher_address: str | None = None

    def with_execution_watcher(self, execution_watcher_address: str) -> _LateExecutor:
        self._watcher_address = execution_watcher_address
        return self

    def run_executor(self, execution_info: Any) -> Any:
        self._before()
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
