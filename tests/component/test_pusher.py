"""AtomicPusherExecutor: production sees a whole, blessed version, or nothing, and the artifact says which and why."""

import errno
import json
import time

import pytest
from google.protobuf import json_format
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts

from components import linked_copy
from components.pusher.executor import AtomicPusherExecutor, PushSettings
from components.serving_folder import folder as serving_folder
from components.serving_folder.files import model_identity
from components.serving_folder.folder import ServingFolder
from components.verdict import bless
from schemas.json_records import to_json

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets.extra/labels.txt": b"cat\ndog\n"}
RELEASE = {
    "winner": "fine_tuned",
    "reason": "fine-tuned: accuracy 97.0% on 100 test photos",
    "forced": None,
    "metrics": {"accuracy": {"value": 0.97, "low": 0.92, "high": 0.99}},
    "data_fingerprint": "abc",
    "compared_with": None,
}


@pytest.fixture
def serving(tmp_path):
    return ServingFolder(tmp_path / "serving")


@pytest.fixture
def push(tmp_path, serving):
    """Pushes a model of three files, whose graph is `graph`; gives the PushedModel artifact."""
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(serving.folder))
    )

    def run(
        graph=b"graph", model_blessed=True, infra_blessed=True, release=None, more_files=None, keep=5, force_push=""
    ):
        model, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
        model_blessing, infra_blessing = standard_artifacts.ModelBlessing(), standard_artifacts.InfraBlessing()
        for artifact in (model, pushed, model_blessing, infra_blessing):
            artifact.uri = str(tmp_path / artifact.type_name)
        write(tmp_path / "Model" / "Format-Serving", {**FILES, "saved_model.pb": graph})
        bless(model_blessing, model_blessed)
        if release is not None:
            write(tmp_path / "ModelBlessing", {"release.json": json.dumps(release).encode()})
        bless(infra_blessing, infra_blessed, "INFRA_")
        if more_files:
            stamped = tmp_path / "InfraBlessing" / "stamped_model"
            write(stamped, {**FILES, "saved_model.pb": graph, **more_files})
            infra_blessing.set_int_custom_property("has_model", 1)
        settings = PushSettings(keep_versions=keep, force_push=force_push, lost_version="", code="code")
        context = AtomicPusherExecutor.Context(pipeline_run_id="2026-01-01T00-00-00Z")
        AtomicPusherExecutor(context).Do(
            {"model": [model], "model_blessing": [model_blessing], "infra_blessing": [infra_blessing]},
            {"pushed_model": [pushed]},
            {
                "push_destination": json_format.MessageToJson(destination),
                "custom_config": settings.model_dump_json(),
            },
        )
        return pushed

    return run


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def contents(folder):
    """Of what was pushed, without the manifest."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }


def said(pushed):
    """Whether it was pushed, and the outcome."""
    return pushed.get_int_custom_property("pushed"), pushed.get_string_custom_property("outcome")


@pytest.mark.parametrize(
    ("blessings", "reason"),
    [
        ((False, True), "ReleaseGate refused the model: it is worse than version 7"),
        ((True, False), "ServableCheck found that the model cannot be served correctly"),
        ((False, False), "ReleaseGate refused the model: it is worse than version 7"),
    ],
)
def test_nothing_appears_without_both_blessings(push, serving, blessings, reason):
    pushed = push(b"graph", *blessings, release={**RELEASE, "reason": "it is worse than version 7"})
    assert not serving.folder.exists()
    assert said(pushed) == (0, "refused")
    assert pushed.get_string_custom_property("reason") == reason


def test_a_refusal_needs_no_words_of_the_gate(push):
    pushed = push(model_blessed=False)
    assert pushed.get_string_custom_property("reason") == "ReleaseGate refused the model"


def test_a_blessed_model_appears_whole_in_one_numeric_folder(push, serving, tmp_path):
    before = int(time.time())
    pushed = push(release=RELEASE)
    [version] = serving.versions()
    folder = serving.folder / str(version)
    assert before <= version <= time.time()
    assert contents(folder) == FILES
    assert contents(tmp_path / "PushedModel") == FILES
    assert said(pushed) == (1, "")
    assert pushed.get_string_custom_property("pushed_version") == str(version)
    assert pushed.get_string_custom_property("pushed_destination") == str(folder)
    manifest = serving.manifest(version)
    assert {key: to_json(manifest)[key] for key in RELEASE if key != "compared_with"} == {
        key: value for key, value in RELEASE.items() if key != "compared_with"
    }
    assert manifest.run_id == "2026-01-01T00-00-00Z"
    assert manifest.labels == ["cat", "dog"]
    assert manifest.model_sha256 == model_identity(tmp_path / "Model" / "Format-Serving")


def test_the_model_with_what_was_put_beside_it_is_pushed_under_the_identity_of_the_trained_one(push, serving, tmp_path):
    warm_up = {"assets.extra/tf_serving_warmup_requests": b"requests", "assets.extra/model.tflite": b"lite"}
    push(more_files=warm_up)
    [version] = serving.versions()
    assert contents(serving.folder / str(version)) == {**FILES, **warm_up}
    assert contents(tmp_path / "PushedModel") == {**FILES, **warm_up}
    assert serving.manifest(version).model_sha256 == model_identity(tmp_path / "Model" / "Format-Serving")


def test_the_model_in_production_is_not_pushed_again(push, serving, tmp_path):
    push()
    pushed = push()
    [version] = serving.versions()
    assert said(pushed) == (0, "already_in_production")
    assert pushed.get_string_custom_property("version") == str(version)
    assert str(version) in pushed.get_string_custom_property("reason")
    assert list((tmp_path / "PushedModel").iterdir()) == []


def test_a_model_that_was_compared_with_another_version_is_not_pushed(push, serving):
    push(b"a", release=RELEASE)
    first = serving.production()
    pushed = push(b"b", release=RELEASE)
    assert said(pushed) == (0, "production_changed")
    assert f"version {first} is now in production" in pushed.get_string_custom_property("reason")
    assert said(push(b"b", release={**RELEASE, "compared_with": first})) == (1, "")


def test_a_model_that_production_was_rolled_back_from_is_pushed_by_force_only(push, serving):
    push(b"a"), push(b"b")
    serving.rollback()
    pushed = push(b"b")
    assert said(pushed) == (0, "rolled_back")
    assert "--force-push" in pushed.get_string_custom_property("reason")
    assert said(push(b"b", force_push="it was the camera")) == (1, "")
    assert serving.manifest(serving.production()).forced == "it was the camera"


def test_a_forced_release_is_recorded(push, serving):
    push(release={**RELEASE, "forced": "the customer waits"})
    assert serving.manifest(serving.production()).forced == "the customer waits"


def test_as_many_old_versions_stay_as_are_asked_for(push, serving):
    for graph in (b"a", b"b", b"c", b"d"):
        push(graph)
    versions = serving.versions()
    serving.pin(versions[0])
    push(b"e", keep=1)
    assert serving.versions() == [versions[0], versions[3], serving.production()]
    serving.rollback()
    push(b"e", keep=0)  # is refused, and then nothing is removed
    assert len(serving.versions()) == 4


def test_what_a_killed_push_left_behind_is_removed(push, serving):
    write(serving.folder / ".incoming-123", {"variables/half": b"half"})
    push()
    assert not list(serving.folder.glob(".incoming-*"))
    assert contents(serving.folder / str(serving.production())) == FILES


@pytest.mark.parametrize("full", ["serving", "PushedModel"])
def test_a_copy_that_fails_half_way_leaves_no_version(push, serving, monkeypatch, full):
    def no_space(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if full == "serving":
            patch.setattr(serving_folder.os, "fsync", no_space)
        else:
            patch.setattr(linked_copy.shutil, "copytree", no_space)
        with pytest.raises(OSError, match="No space left on device"):
            push()
    assert serving.versions() == []

    push()  # the disk has room again
    [version] = serving.versions()
    assert contents(serving.folder / str(version)) == FILES
