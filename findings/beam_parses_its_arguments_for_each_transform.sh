#!/bin/sh
# Guess:   Beam parses the arguments of a pipeline once, and reads the signature of a function object once.
# Seen:    with Beam 2.77.0 each ParDo more in a pipeline has two more parsers of arguments built, with all their
#          options, and 245 more signatures read: those of every method of the function object, several times over. In
#          short pipelines this is most of the time before the first element.
#              Beam 2.77.0: for each ParDo more, 2 parsers are built and 245 signatures read; in a pipeline with 50, 148
#              and 12756
# Source:  `Pipeline._apply_internal` and `_infer_result_type` in apache_beam/pipeline.py; `PipelineOptions.view_as` in
#          apache_beam/options/pipeline_options.py; `get_dofn_specs` in apache_beam/transforms/userstate.py.
# Matters: deploy/quick_beam.py remembers both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet apache-beam==2.77.0
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import argparse
import sys

import apache_beam as beam
from apache_beam.transforms import core

counts = {"parsers": 0, "signatures": 0}
make, read = argparse.ArgumentParser.__init__, core.get_function_args_defaults


def counted_parser(self, *arguments, **keywords):
    counts["parsers"] += 1
    make(self, *arguments, **keywords)


def counted_signature(function):
    counts["signatures"] += 1
    return read(function)


argparse.ArgumentParser.__init__ = counted_parser
core.get_function_args_defaults = counted_signature


class Same(beam.DoFn):
    def process(self, element):
        yield element


def run(transforms):
    counts.update(parsers=0, signatures=0)
    with beam.Pipeline("FnApiRunner") as pipeline:
        numbers = pipeline | beam.Create([1])
        for i in range(transforms):
            numbers = numbers | str(i) >> beam.ParDo(Same())
    return dict(counts)


few, many = run(10), run(50)
each = {name: (many[name] - few[name]) / 40 for name in counts}
print(f"Beam {beam.__version__}: for each ParDo more, {each['parsers']:g} parsers are built "
      f"and {each['signatures']:g} signatures read; in a pipeline with 50, {many['parsers']} and {many['signatures']}")
sys.exit(each["parsers"] < 2 or each["signatures"] < 20)
PYTHON
