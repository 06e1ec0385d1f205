"""The pipeline on Kubeflow Pipelines: compiled to a package, submitted and scheduled, and run one container a node."""

# What a package says about the cluster where nobody says otherwise; deploy/kubernetes has the same.
MOUNT, VOLUME_CLAIM = "/warmstart", "warmstart"
METADATA_SERVICE = "grpc://metadata-grpc-service.kubeflow:8080"
