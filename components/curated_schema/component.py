"""The CuratedSchema component."""

import os

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from schemas.schema_files import SCHEMA_FILE


@component
def CuratedSchema(content: Parameter[str], schema: OutputArtifact[standard_artifacts.Schema]):
    """Makes an artifact of a curated schema.

    TFX's ImportSchemaGen has the file's path in its cache key, and not what is in it: an edited schema would not be
    seen, and a warmstart that is installed elsewhere would ingest every span anew.
    """
    fileio.makedirs(schema.uri)
    with fileio.open(os.path.join(schema.uri, SCHEMA_FILE), "w") as file:
        file.write(content)
