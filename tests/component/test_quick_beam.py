"""What Beam remembers has to be what it would find."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    PipelineOptions,
    StandardOptions,
    TypeOptions,
)
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import core, userstate

from deploy import quick_beam

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def quick(monkeypatch):
    """Beam with the changes, for the length of a test."""
    monkeypatch.setattr(core, "get_function_args_defaults", quick_beam._remembered_args_defaults)
    monkeypatch.setattr(PipelineOptions, "view_as", quick_beam._remembered_view_as)


class _Adding(beam.DoFn):
    def __init__(self, number: int):
        self._number = number

    def process(self, element, more=1):
        yield element + self._number + more


class _Counting(beam.DoFn):
    COUNT = userstate.CombiningValueStateSpec("count", sum)

    def process(self, element, count=beam.DoFn.StateParam(COUNT)):  # noqa: B008  (as Beam wants it)
        count.add(1)
        yield element


def _wrapped(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


class _Decorated(beam.DoFn):
    @_wrapped
    def process(self, element, factor=3):
        yield factor * element


def test_signatures_are_those_that_beam_finds(quick):
    for function_object in (_Adding(1), _Adding(2), _Counting(), _Decorated(), core.CallableWrapperDoFn(len)):
        for _ in range(2):
            method = function_object.process
            assert core.get_function_args_defaults(method) == quick_beam._args_defaults(method)
    assert core.get_function_args_defaults(len) == quick_beam._args_defaults(len)
    assert userstate.is_stateful_dofn(_Counting())
    assert not userstate.is_stateful_dofn(_Adding(1))
    arguments, defaults = core.get_function_args_defaults(_Adding(1).process)
    arguments.clear()
    defaults.clear()
    assert core.get_function_args_defaults(_Adding(1).process) == quick_beam._args_defaults(_Adding(1).process)


def test_views_share_the_values_of_their_options(quick):
    options = PipelineOptions(["--direct_num_workers=3", "--experiments=one"])
    assert options.view_as(DirectOptions).direct_num_workers == 3
    options.view_as(DirectOptions).direct_num_workers = 5
    assert options.view_as(DirectOptions).direct_num_workers == 5
    assert options.view_as(StandardOptions).view_as(DirectOptions).direct_num_workers == 5
    assert quick_beam._view_as(options, DirectOptions).direct_num_workers == 5
    options.view_as(DebugOptions).add_experiment("two")
    assert options.view_as(DebugOptions).experiments == ["one", "two"]
    others = PipelineOptions(["--direct_num_workers=2"])
    assert others.view_as(DirectOptions).direct_num_workers == 2
    assert others.get_all_options(drop_default=True) == {"direct_num_workers": 2}


def test_a_pipeline_gives_what_it_gave(quick):
    options = PipelineOptions(["--no_pipeline_type_check"])
    assert not options.view_as(TypeOptions).pipeline_type_check
    with beam.Pipeline("DirectRunner", options) as pipeline:
        numbers = pipeline | beam.Create([1, 2, 3])
        added = numbers | "ten" >> beam.ParDo(_Adding(10)) | "twenty" >> beam.ParDo(_Adding(20), 5)
        keyed = added | beam.Map(lambda number: (number % 2, number)) | "count" >> beam.ParDo(_Counting())
        counted = keyed | beam.Values() | "three times" >> beam.ParDo(_Decorated())
        assert_that(counted, equal_to([3 * (number + 10 + 1 + 20 + 5) for number in (1, 2, 3)]))


def test_beam_is_imported_by_the_first_pipeline_and_not_before():
    program = """
import sys
from deploy import quick_start
quick_start.import_launcher()
from deploy import beam_operator
beam_operator._have_quick_pipelines()
print("apache_beam.pipeline" in sys.modules, "deploy.quick_beam" in sys.modules)
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
class Executor(BaseBeamExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        pass
Executor()._make_beam_pipeline()
from apache_beam.transforms import core
print("apache_beam.pipeline" in sys.modules, core.get_function_args_defaults.__module__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False", "True", "deploy.quick_beam"]
