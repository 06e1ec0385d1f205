"""What a server of Kubeflow Pipelines can do, by its version, and what a package needs of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deploy.kubeflow import KUBEFLOWS_METADATA_SERVICE, METADATA_SERVICE
from schemas.errors import BadInput

if TYPE_CHECKING:
    from deploy.kubeflow.compiler import Cluster
    from deploy.kubeflow.connection import Connection
    from pipeline.config.release import RuntimeConfig

# ML Metadata was removed in 3.0 (kubeflow/pipelines#13986); 2.18 is the last line with it (#14392).
_WITHOUT_METADATA = (3, 0)
# SecurityContext and sub_path in kubernetes_executor_config.proto, and propagation_policy in the API, came in 2.16;
# the two fields of PipelineConfig came in 2.17. Older servers ignore what they do not know.
_SINCE_SECURITY_CONTEXT, _SINCE_PIPELINE_CONFIG, _SINCE_PROPAGATION_POLICY = (2, 16), (2, 17), (2, 16)
_OWN_STORE = (
    f"bring up deploy/kubernetes/components/metadata and give --metadata {METADATA_SERVICE}, or give your own mysql:// "
    "server"
)


def version_numbers(version: str) -> tuple[int, int] | None:
    """Major and minor version; None: the version is unknown."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.", version)
    return (int(numbers[1]), int(numbers[2])) if numbers else None


def is_kubeflows_metadata(address: str) -> bool:
    """Whether an address of ML Metadata is that of the service that Kubeflow Pipelines brought up to 2.18."""
    name = (urlsplit(KUBEFLOWS_METADATA_SERVICE).hostname or "").partition(".")[0]
    parts = urlsplit(address)
    return parts.scheme == "grpc" and (parts.hostname or "").partition(".")[0] == name


def keeps_runs_of_deleted_schedules(connection: Connection) -> bool:
    """Whether the server can delete a recurring run without the runs that it started."""
    numbers = version_numbers(connection.version)
    return numbers is not None and numbers >= _SINCE_PROPAGATION_POLICY


def refuse_unfit(connection: Connection, cluster: Cluster, runtime: RuntimeConfig) -> None:
    """Refuses a package that the server could not run as it is meant, before anything is uploaded.

    Raises:
      BadInput: the package names Kubeflow's own ML Metadata and the server has none or does not tell its version, or
        it uses settings that an older server would ignore.
    """
    place, numbers = f"Kubeflow Pipelines at {connection.endpoint.shown()}", version_numbers(connection.version)
    if is_kubeflows_metadata(cluster.metadata):
        if numbers is None:
            raise BadInput(
                f"{place} does not tell its version, so it may be 3.0 or newer, which has no ML Metadata, and "
                f"{cluster.metadata} would name nothing; {_OWN_STORE}"
            )
        if numbers >= _WITHOUT_METADATA:
            raise BadInput(
                f"{place} is version {connection.version}, which has no ML Metadata, so {cluster.metadata} names "
                f"nothing; {_OWN_STORE}"
            )
    settings = (
        ("--run-as", cluster.run_as, _SINCE_SECURITY_CONTEXT),
        ("--sub-path", cluster.sub_path, _SINCE_SECURITY_CONTEXT),
        ("runtime.deadline_hours", runtime.deadline_hours, _SINCE_PIPELINE_CONFIG),
        ("runtime.workflow_days", runtime.workflow_days, _SINCE_PIPELINE_CONFIG),
    )
    for setting, value, since in settings:
        if value and numbers is not None and numbers < since:
            raise BadInput(
                f"{place} is version {connection.version}, which ignores {setting}; expected version "
                f"{'.'.join(map(str, since))} or newer: upgrade it, or leave {setting} out"
            )
