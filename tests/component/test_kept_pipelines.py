"""Compiled pipelines are kept by everything that they follow from."""

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import pytest
from ml_metadata.metadata_store import metadata_store
from tfx.orchestration import metadata

from deploy import assembly
from deploy.assembly import KeptPipelines
from deploy.root import Root
from pipeline import graph
from pipeline.config import load_config

SOURCES = ({"cats_vs_dogs": "/photos"}, {})


@pytest.fixture
def root(tmp_path):
    made = Root(tmp_path / "root")
    made.prepare("cats_vs_dogs")
    return made


@pytest.fixture
def keep(root):
    """Makes a `KeptPipelines` of the root, as each run does."""
    connection = metadata.sqlite_metadata_connection_config(str(root.metadata))
    store = metadata_store.MetadataStore(connection)
    return lambda force_push="": KeptPipelines(root, SOURCES, store, connection, force_push)


@pytest.fixture
def assembled(monkeypatch):
    """The configurations that a pipeline was assembled for."""
    found = []
    make = graph.make_pipeline
    monkeypatch.setattr(graph, "make_pipeline", lambda config, *given: found.append(config) or make(config, *given))
    return found


def config(*settings):
    return load_config("cats_vs_dogs", list(settings), ["/photos"])


def test_the_same_pipeline_is_assembled_once(keep, assembled):
    first = keep()(config())
    again = keep()(config())
    assert again == first
    assert len(assembled) == 1
    assert first.pipeline_info.id == "cats_vs_dogs"
    assert not first.runtime_spec.pipeline_run_id.HasField("field_value")  # it holds for every run


def test_anything_that_it_follows_from_is_seen(keep, assembled, root, monkeypatch):
    keep()(config())
    keep()(config("training.seed=1"))
    keep("a reason")(config())
    monkeypatch.setattr(assembly, "fingerprint_of_everything", lambda: "other code")
    keep()(config())
    assert len(assembled) == 4
    assert len(list(root.compiled.iterdir())) == 4


@pytest.mark.parametrize("damage", ["cut off", "another's"])
def test_a_damaged_file_is_written_again(keep, assembled, root, damage):
    first = keep()(config())
    [file] = root.compiled.iterdir()
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        keep()(config("training.seed=1"))
        [other] = set(root.compiled.iterdir()) - {file}
        other.replace(file)
    assert keep()(config()) == first
    assert len(assembled) == (2 if damage == "cut off" else 3)


def test_after_a_push_the_next_run_finds_its_pipeline(keep, assembled, monkeypatch):
    pipelines = keep()
    before = pipelines(config())
    pipelines.prepare_next()  # production is as it was
    assert len(assembled) == 1
    monkeypatch.setattr(Root, "production_model", lambda root: "/serving/7")
    pipelines.prepare_next()
    assert len(assembled) == 2
    assert keep()(config()) != before
    assert len(assembled) == 2


def test_a_root_keeps_a_few(keep, root, monkeypatch):
    monkeypatch.setattr(assembly, "_MOST_KEPT", 2)
    for seed in range(4):
        keep()(config(f"training.seed={seed}"))
    assert len(list(root.compiled.iterdir())) == 2
