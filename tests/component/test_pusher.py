"""AtomicPusherExecutor: production sees a whole, blessed version, or nothing."""

import errno
import time

import pytest
from google.protobuf import json_format
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from components.pusher.executor import AtomicPusherExecutor, served_versions
from components.verdict import bless

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets.extra/labels.txt": b"cat\ndog\n"}


@pytest.fixture
def serving(tmp_path):
    return tmp_path / "serving"


@pytest.fixture
def push(tmp_path, serving):
    """Pushes a model of three files; gives the PushedModel artifact."""
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    for name, content in FILES.items():
        file = tmp_path / "model" / "Format-Serving" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(serving))
    )

    def run(model_blessed=True, infra_blessed=True):
        model_blessing, infra_blessing = standard_artifacts.ModelBlessing(), standard_artifacts.InfraBlessing()
        model_blessing.uri, infra_blessing.uri = str(tmp_path / "model_blessing"), str(tmp_path / "infra_blessing")
        bless(model_blessing, model_blessed)
        bless(infra_blessing, infra_blessed, "INFRA_")
        pushed = standard_artifacts.PushedModel()
        pushed.uri = str(tmp_path / "pushed")
        AtomicPusherExecutor().Do(
            {"model": [model], "model_blessing": [model_blessing], "infra_blessing": [infra_blessing]},
            {"pushed_model": [pushed]},
            {"push_destination": json_format.MessageToJson(destination)},
        )
        return pushed

    return run


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("blessings", [(False, True), (True, False), (False, False)])
def test_nothing_appears_without_both_blessings(push, serving, blessings):
    pushed = push(*blessings)
    assert not serving.exists()
    assert pushed.get_int_custom_property("pushed") == 0


def test_a_blessed_model_appears_whole_in_one_numeric_folder(push, serving):
    before = int(time.time())
    pushed = push()
    [folder] = serving.iterdir()
    assert before <= int(folder.name) <= time.time()
    assert contents(folder) == FILES
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_version") == folder.name
    assert pushed.get_string_custom_property("pushed_destination") == str(folder)


def test_what_a_killed_push_left_behind_is_removed(push, serving):
    leftover = serving / ".incoming-123" / "variables"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"half")
    push()
    [folder] = serving.iterdir()
    assert folder.name.isdigit()
    assert contents(folder) == FILES


def test_the_newest_version_is_the_highest_even_if_the_clock_is_behind(push, serving):
    ahead = int(time.time()) + 1000
    (serving / str(ahead)).mkdir(parents=True)
    (serving / "999").mkdir()  # later as a string, earlier as a number
    (serving / "notes").mkdir()
    assert push().get_string_custom_property("pushed_version") == str(ahead + 1)
    assert push().get_string_custom_property("pushed_version") == str(ahead + 2)
    assert served_versions(str(serving)) == [999, ahead, ahead + 1, ahead + 2]


def test_two_pushes_in_one_second_are_two_versions(push, serving, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    push(), push()
    assert served_versions(str(serving)) == [int(now), int(now) + 1]


def test_a_copy_that_fails_half_way_leaves_no_version(push, serving, monkeypatch):
    copy_dir, seen_while_copying = io_utils.copy_dir, []

    def full_disk(source, target, *arguments, **options):
        if str(serving) not in target:
            return copy_dir(source, target, *arguments, **options)
        copy_dir(source, target, deny_regex_patterns=["variables"])
        seen_while_copying.extend(path.name for path in serving.iterdir())
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(io_utils, "copy_dir", full_disk)
        with pytest.raises(OSError, match="No space left on device"):
            push()
    assert len(seen_while_copying) == 1, "the failure must come while the model is being copied to production"
    assert served_versions(str(serving)) == []
    assert not [path for path in serving.iterdir() if path.name.isdigit()]

    push()  # the disk has room again
    [folder] = serving.iterdir()
    assert contents(folder) == FILES
