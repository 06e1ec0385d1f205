"""Runs the executor of a Beam step with arguments that are given at the launch, and not in the compiled pipeline."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.orchestration.portable import beam_executor_operator
from tfx.proto.orchestration import executable_spec_pb2, placeholder_pb2

from schemas.errors import BadInput

# How a worker's refusal ends up in the text of the runner's error: the last line of a traceback, and what Beam adds.
_REFUSAL = re.compile(r"^schemas\.errors\.(?:BadInput|DataRefused): (.+?)(?: \[while running .*)?$", re.MULTILINE)


@functools.cache
def _have_quick_pipelines() -> None:
    """Has Beam made quick once an executor makes a pipeline: one that makes none does not import Beam."""
    make = BaseBeamExecutor._make_beam_pipeline

    def make_quick(executor: BaseBeamExecutor) -> Any:
        from deploy.quick_beam import make_beam_quick

        make_beam_quick()
        return make(executor)

    BaseBeamExecutor._make_beam_pipeline = make_quick


def executor_operators(arguments: Sequence[str]) -> dict[Any, Any]:
    """`custom_executor_operators` of a `Launcher` whose Beam steps run with `arguments`."""
    operator = functools.partial(BeamOperator, arguments=tuple(arguments))
    return {executable_spec_pb2.BeamExecutableSpec: operator}


class BeamOperator(beam_executor_operator.BeamExecutorOperator):
    """TFX's operator, with further arguments, and with the sentence of a worker that refused its input."""

    def __init__(self, executor_spec: Any, platform_config: Any = None, *, arguments: Sequence[str] = ()):
        super().__init__(executor_spec, platform_config)
        for argument in arguments:
            expression = placeholder_pb2.PlaceholderExpression()
            expression.value.string_value = argument
            self.beam_pipeline_args.append(expression)

    def run_executor(self, execution_info: Any, make_beam_pipeline_fn: Any = None) -> Any:
        """Overrides BeamExecutorOperator.run_executor().

        Raises:
          BadInput: a worker in another process raised it, and the runner passed it on as text.
        """
        _have_quick_pipelines()
        try:
            return super().run_executor(execution_info, make_beam_pipeline_fn)
        except RuntimeError as error:
            if refused := _REFUSAL.search(str(error)):
                raise BadInput(refused[1]) from error
            raise
