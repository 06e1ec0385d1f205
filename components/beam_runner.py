"""Which Beam runner a step runs on."""

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


def runs_here(pipeline: beam.Pipeline) -> bool:
    """Whether the pipeline runs in this process, in memory.

    Then nothing is reshuffled and records are written in the order they were read, so that the same photos give
    the same files. On a distributed runner a reshuffle spreads the work, and the order is the runner's.
    """
    return isinstance(pipeline.runner, FnApiRunner)
