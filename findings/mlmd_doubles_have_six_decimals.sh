#!/bin/sh
# Guess:   a double that is stored as a property in ML Metadata comes back bit for bit, as from the SQLite below it.
# Seen:    ml-metadata 1.17.1 keeps six digits after the point, whatever the size: a p-value or a learning rate below
#          5e-7 comes back as 0.0, and equality with what was stored is lost. Integers are exact.
#              ml-metadata 1.17.1: 0.123456789 came back as 0.123457
#              ml-metadata 1.17.1: 2.5e-07 came back as 0.0
#              ml-metadata 1.17.1: 1234567.1234567 came back as 1234567.123457
#              ml-metadata 1.17.1: 1796061380 came back as 1796061380.0
# Source:  `Bind(double)` in ml_metadata/metadata_store/query_config_executor.cc (SQLite, MySQL) and
#          postgresql_query_executor.cc: std::to_string, which writes "%f" into the statement.
# Matters: p-values and intervals of the gates lie in JSON files of their artifacts, not in properties. The one double
#          that is stored and read again is a peak of memory in megabytes (deploy/node_launch.py).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ml-metadata==1.17.1
"$folder/venv/bin/python" - "$folder/metadata.sqlite" <<'PYTHON'
import sys
from importlib.metadata import version

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

expected = {0.123456789: 0.123457, 2.5e-7: 0.0, 1234567.1234567: 1234567.123457, 1796061380: 1796061380.0}
connection = mlmd.ConnectionConfig()
connection.sqlite.filename_uri = sys.argv[1]
store = MetadataStore(connection)
verdict = mlmd.ArtifactType(name="Verdict", properties={"p": mlmd.DOUBLE})
type_id = store.put_artifact_type(verdict)
seen = {}
for value in expected:
    stored = mlmd.Artifact(type_id=type_id, properties={"p": mlmd.Value(double_value=value)})
    [found] = store.get_artifacts_by_id(store.put_artifacts([stored]))
    seen[value] = found.properties["p"].double_value
    print(f"ml-metadata {version('ml-metadata')}: {value} came back as {seen[value]}")
sys.exit(seen != expected)
PYTHON
