"""The pipeline on Kubeflow Pipelines: compiled to a package, submitted and scheduled, and run one container a node."""
