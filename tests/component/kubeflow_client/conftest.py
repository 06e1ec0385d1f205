"""A stub of KFP's API, a connection to it, and a compiled package.

These tests also run with the newest `kfp`, in an environment without TFX (`test_kubeflow_newest_kfp.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.kubeflow.connection import Connection
from deploy.kubeflow.package_file import Package, read_package
from tests.kfp_api_stub import KfpApiStub
from tests.kubeflow_server import connected


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("KFP_ENDPOINT", "KFP_NAMESPACE", "KFP_TOKEN", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="module")
def package_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks and one at the end, compiled by the `kfp` that is installed."""
    from kfp import compiler, dsl

    def container(name: str, image: str = "ghcr.io/me/warmstart:1.0") -> Any:
        def body(root):
            return dsl.ContainerSpec(image=image, command=["python"], args=[root])

        body.__name__, body.__annotations__ = name, {"root": str}
        return dsl.container_component(body)

    def pipeline(config, span=""):
        at_the_end = container("report", "ghcr.io/me/warmstart-report:1.0")(root=config).set_caching_options(False)
        with dsl.ExitHandler(at_the_end):
            first = container("image_example_gen")(root=span).set_caching_options(False)
            second = container("evaluate")(root=span).set_caching_options(False)
            first.set_display_name("ImageExampleGen")
            second.set_display_name("Evaluator").after(first)

    # The SDK 2.5 reads no annotations that are strings.
    pipeline.__annotations__ = {"config": str, "span": str}
    file = tmp_path_factory.mktemp("package") / "package.yaml"
    compiler.Compiler().compile(dsl.pipeline(name="warmstart")(pipeline), str(file))
    return file


@pytest.fixture
def package(package_file: Path) -> Package:
    return read_package(package_file, {"config": "cats_vs_dogs"})


@pytest.fixture
def stub() -> Iterator[KfpApiStub]:
    with KfpApiStub() as server:
        yield server


@pytest.fixture
def connection(stub: KfpApiStub) -> Connection:
    return connected(stub)
