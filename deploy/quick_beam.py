"""Apache Beam's pipelines, put together quicker: what Beam works out thousands of times is remembered.

For every transform of a pipeline Beam reads the signatures of all methods of its function object several times, and
parses the pipeline's arguments anew. In a run on few photos that is a seventh of all Python code. Both give the same
each time, so both are kept here. `tests/component/test_quick_beam.py` compares with what Beam itself finds.
"""

from __future__ import annotations

import functools
import types
import weakref
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core

_view_as = PipelineOptions.view_as
_args_defaults = core.get_function_args_defaults

# By function, whatever object it is bound to: names of its arguments, and values of their defaults.
_signatures: weakref.WeakKeyDictionary[Any, tuple[list[str], list[Any]]] = weakref.WeakKeyDictionary()
# By options: the views of them that were asked for.
_views: weakref.WeakKeyDictionary[PipelineOptions, dict[Any, PipelineOptions]] = weakref.WeakKeyDictionary()


@functools.cache
def make_beam_quick() -> None:
    """Has Beam remember signatures and views of options, in this process, from now on."""
    core.get_function_args_defaults = _remembered_args_defaults
    PipelineOptions.view_as = _remembered_view_as


def _remembered_args_defaults(function: Any) -> tuple[list[str], list[Any]]:
    """In the place of `core.get_function_args_defaults`; of a method of a class or an object, for all objects alike."""
    if not isinstance(function, types.MethodType) or not isinstance(function.__func__, types.FunctionType):
        return _args_defaults(function)
    if function.__func__ not in _signatures:
        _signatures[function.__func__] = _args_defaults(function)
    arguments, defaults = _signatures[function.__func__]
    return list(arguments), list(defaults)


def _remembered_view_as(self: PipelineOptions, kind: type[PipelineOptions]) -> PipelineOptions:
    """In the place of `PipelineOptions.view_as`. All views share the values, so a change is seen through each."""
    views = _views.setdefault(self, {})
    key = kind, tuple(self._flags or ())
    view = views.get(key)
    if view is None or view._all_options is not self._all_options:
        view = views[key] = _view_as(self, kind)
    return view
