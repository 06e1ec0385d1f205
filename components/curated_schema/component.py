"""The CuratedSchema component."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base import base_component
from tfx.types import channel, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ExecutionParameter


class CuratedSchemaSpec(standard_component_specs.ImportSchemaGenSpec):
    PARAMETERS = {  # noqa: RUF012
        **standard_component_specs.ImportSchemaGenSpec.PARAMETERS,
        "content": ExecutionParameter(type=str),
    }


class CuratedSchema(ImportSchemaGen):
    """Imports a schema file; its content, and not only its path, is part of the cache key."""

    SPEC_CLASS = CuratedSchemaSpec

    def __init__(self, schema_file: str):
        spec = CuratedSchemaSpec(
            schema_file=schema_file,
            content=hashlib.sha256(Path(schema_file).read_bytes()).hexdigest(),
            schema=channel.Channel(type=standard_artifacts.Schema),
        )
        base_component.BaseComponent.__init__(self, spec=spec)
