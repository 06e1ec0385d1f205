"""A compiled package read back."""

from __future__ import annotations

import pytest
import yaml

from deploy.kubeflow.package_file import read_package
from schemas.errors import BadInput
from tests.kubeflow_server import edited, sentence


def test_a_package_tells_its_images_and_the_names_of_its_container_tasks(package):
    assert package.images == ("ghcr.io/me/warmstart-report:1.0", "ghcr.io/me/warmstart:1.0")
    assert package.tasks == {"image-example-gen": "ImageExampleGen", "evaluate": "Evaluator", "report": "report"}


def test_the_digest_follows_the_content_and_not_the_way_it_is_written(package, package_file, tmp_path):
    reformatted = tmp_path / "reformatted.yaml"
    documents = list(yaml.safe_load_all(package_file.read_text()))
    reformatted.write_text("# another comment\n" + yaml.safe_dump_all(documents, default_flow_style=True))
    other_image = edited(package_file, tmp_path, "warmstart:1.0", "warmstart:1.1")
    given = {"config": "cats_vs_dogs"}
    assert read_package(reformatted, given).digest == package.digest
    assert read_package(other_image, given).digest != package.digest
    assert package.version_name("cats") == f"cats-{package.digest[:12]}"


def test_a_package_that_uses_the_cache_of_kfp_is_refused(package_file, tmp_path):
    cached = edited(package_file, tmp_path, "cachingOptions: {}", "cachingOptions: {enableCache: true}")
    with pytest.raises(BadInput, match="cache") as error:
        read_package(cached, {"config": "cats_vs_dogs"})
    assert "compile it again" in sentence(error)


def test_parameters_that_the_pipeline_does_not_have_or_needs_are_named(package_file):
    with pytest.raises(BadInput, match="no parameter 'spam'; it has config, span"):
        read_package(package_file, {"config": "a", "spam": "b"})
    with pytest.raises(BadInput, match="needs a value for its parameter 'config'"):
        read_package(package_file, {"span": "1"})


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "a: [",
        "just text",
        "- 1\n- 2",
        "root: {}",
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow",
        b"\xff\xfe\x00",
    ],
)
def test_a_file_that_is_no_compiled_pipeline_is_one_sentence(tmp_path, content):
    file = tmp_path / "package.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=r"package\.yaml") as error:
        read_package(file, {})
    sentence(error)


def test_another_schema_and_another_suffix_are_refused(package_file, tmp_path):
    old = edited(package_file, tmp_path, "schemaVersion: 2.1.0", "schemaVersion: 2.0.0")
    with pytest.raises(BadInput, match=r"has schema 2\.0\.0"):
        read_package(old, {"config": "a"})
    with pytest.raises(BadInput, match=r"is not a \.yaml file"):
        read_package(tmp_path / "package.json", {})
