"""The pipeline on Kubeflow Pipelines: compiled to a package, submitted and scheduled, and run one container a node."""

# What a package says about the cluster where nobody says otherwise; deploy/kubernetes has the same.
MOUNT, VOLUME_CLAIM = "/warmstart", "warmstart"
# The service of deploy/kubernetes/components/metadata, in the namespace of the pipeline's pods.
METADATA_SERVICE = "grpc://warmstart-metadata:8080"
# What Kubeflow itself brings up to 2.18; 3.0 removed it (kubeflow/pipelines#13986).
KUBEFLOWS_METADATA_SERVICE = "grpc://metadata-grpc-service.kubeflow:8080"
