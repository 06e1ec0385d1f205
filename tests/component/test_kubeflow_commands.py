"""The commands `warmstart kubeflow ...`, against the stub of Kubeflow Pipelines' API."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.kubeflow import package_request, runs
from deploy.kubeflow.commands import kubeflow
from tests.kfp_api_stub import KfpApiStub, task
from tests.kubeflow_lint import problems

REPOSITORY = Path(__file__).parents[2]
NOTHING = (0, 0, 0, 0, 0)
TOKEN = "a-token-of-ann"
PIPELINE = "cats-vs-dogs"
VARIABLES = (
    "KFP_ENDPOINT", "KFP_NAMESPACE", "KFP_TOKEN", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT",
    "WARMSTART_IMAGE",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, and no settings of the machine."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="module")
def image() -> str:
    return "registry.example/me/warmstart:1.0"


@pytest.fixture(scope="module")
def packages() -> dict[str, tuple[str, str]]:
    """What was compiled already."""
    return {}


@pytest.fixture
def compiled_once(packages: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same package is not compiled again by every test."""
    make = package_request.make_package

    def make_once(resolved: package_request.ResolvedRequest) -> tuple[str, str]:
        if repr(resolved) not in packages:
            packages[repr(resolved)] = make(resolved)
            assert problems(packages[repr(resolved)][1]) == []
        return packages[repr(resolved)]

    monkeypatch.setattr(package_request, "make_package", make_once)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, compiled_once: None) -> Iterator[KfpApiStub]:
    """The server that all commands find in the environment."""
    with KfpApiStub() as server:
        monkeypatch.setenv("KFP_ENDPOINT", server.address)
        yield server


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["kubeflow", *arguments], prog_name="warmstart")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: str, code: int = 0) -> str:
    """What a command printed."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    return result.output


def refused(*arguments: str) -> str:
    """The sentence of a command that was refused."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    [line] = [line for line in result.output.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line


def wanted(image: str, config: str = "cats_vs_dogs") -> list[str]:
    return ["--config", config, "--image", image]


# ---- help


def every_command(command: click.Command, path: tuple[str, ...] = ("kubeflow",)) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from every_command(below, (*path, name))


COMMANDS = list(every_command(kubeflow))


def test_the_commands_are_those_of_the_readme():
    assert {" ".join(path) for path in COMMANDS} == {
        "kubeflow", "kubeflow compile", "kubeflow submit", "kubeflow schedule", "kubeflow schedule set",
        "kubeflow schedule list", "kubeflow schedule delete",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_has_an_example_that_the_command_line_understands(path):
    text = done(*path[1:], "--help")
    examples = [line.strip() for line in text.splitlines() if re.match(r"\s+(\w+=\S+ )*warmstart kubeflow", line)]
    assert examples
    for example in examples:
        words = [word for word in shlex.split(example) if not re.match("[A-Z_]+=", word)]
        command: click.Command = main
        for word in words[1:]:
            if isinstance(command, click.Group):
                command = command.commands[word]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_no_help_shows_a_token(monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", TOKEN)
    for path in COMMANDS:
        assert TOKEN not in done(*path[1:], "--help")


def test_help_and_mistakes_import_nothing_slow():
    slow = (
        "tensorflow",
        "tfx",
        "apache_beam",
        "kfp",
        "kfp_server_api",
        "kubernetes",
        "ml_metadata",
        "requests",
        "numpy",
    )
    code = f"""
import sys
from click.testing import CliRunner
from deploy.cli import main
for arguments in {[[*path[1:], "--help"] for path in COMMANDS]}:
    assert CliRunner().invoke(main, ["kubeflow", *arguments]).exit_code == 0
for arguments in (["compile"], ["compile", "--config", "cats", "--image", "a"], ["compile", "--config", "species"]):
    assert CliRunner().invoke(main, ["kubeflow", *arguments]).exit_code == 2
print([one for one in {slow} if one in sys.modules])
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


# ---- compile


@pytest.mark.slow
@pytest.mark.release
def test_compile_writes_a_package_that_breaks_no_rule(image):
    output = done("compile", *wanted(image))
    text = Path("cats_vs_dogs.yaml").read_text(encoding="utf-8")
    assert problems(text) == []
    spec, _ = yaml.safe_load_all(text)
    containers = [executor["container"] for executor in spec["deploymentSpec"]["executors"].values()]
    assert {container["image"] for container in containers} == {image}
    steps = {container["args"][1] for container in containers}
    assert {"Prepare", "Report", "ImageExampleGen", "FineTuning", "Pusher"} < steps
    assert len(steps) == len(containers)
    assert output.splitlines() == [
        f"cats_vs_dogs.yaml: the pipeline {PIPELINE}, {len(steps)} tasks, {len(text.encode()) / 1000:.0f} kB"
    ]
    assert os.listdir() == ["cats_vs_dogs.yaml"]
    done("compile", *wanted(image), "--output", "again.yaml")
    assert Path("again.yaml").read_text(encoding="utf-8") == text


@pytest.mark.slow
@pytest.mark.release
def test_compile_takes_a_file_and_everything_that_can_be_said(image):
    text = "# of several lines\nname: mine\ntask: {schema_name: image_folder}\ndata:\n  sources:\n    image_folder:\n"
    Path("mine.yaml").write_text(text)
    done(
        "compile", *wanted(image, "mine.yaml"), "--output", "package.yaml", "--mount", "/data/", "--root", "/data/r/",
        "--data", "/data/{YYYY}-{MM}-{DD}", "--span", " 2026-11-22 ", "--set", "runtime.steps.Pusher.timeout_minutes=5",
        "--set", "training.tuner.trials=3", "--volume-claim", "photos", "--metadata", "mysql://ann@db/meta",
        "--metadata-secret", "db", "--tfx-pipeline-root", "gs://bucket/tfx",
    )  # fmt: skip
    package = Path("package.yaml").read_text(encoding="utf-8")
    assert problems(package) == []
    spec, platform = yaml.safe_load_all(package)
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: one["defaultValue"] for name, one in parameters.items()} == {
        "config": text,
        "data": "image_folder=/data/{YYYY}-{MM}-{DD}",
        "span": "2026-11-22",
        "overrides": "runtime.steps.Pusher.timeout_minutes=5; training.tuner.trials=3",
        "root": "/data/r",
        "tfx_pipeline_root": "gs://bucket/tfx",
        "force_push": "",
    }
    containers = {label: one["container"] for label, one in spec["deploymentSpec"]["executors"].items()}
    assert "exec-tuner" in containers
    limited = [label for label, container in containers.items() if "--timeout-minutes" in container["args"]]
    assert limited == ["exec-pusher"]
    assert {container["args"][3] for container in containers.values()} == {"mysql://ann@db/meta"}
    [mount] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-tuner"]["pvcMount"]
    assert (mount["constant"], mount["mountPath"]) == ("photos", "/data")


BAD = {
    "configuration": (["--config", "cats"], "did you mean 'cats_vs_dogs'?"),
    "file": (["--config", "absent.yaml"], "absent.yaml does not exist"),
    "setting": (["--set", "image.sise=3"], "unknown key 'image.sise'; did you mean 'image.size'?"),
    "step": (["--set", "runtime.steps.FinTuning.memory=8G"], "runtime.steps names FinTuning"),
    "photos": (["--data", "/photos"], "the data folder /photos is not below /warmstart"),
    "relative photos": (["--data", "photos"], "photos is not below /warmstart"),
    "separator": (["--data", "/warmstart/a;b"], "contains a semicolon"),
    "span": (["--span", "17"], "there are no spans in /warmstart/photos"),
    "root": (["--root", "runs"], "the root runs is not below /warmstart"),
    "root with a pattern": (
        ["--root", "/warmstart/runs [v2]"],
        "the path of the root, /warmstart/runs [v2], contains [",
    ),
    "pipeline root": (["--tfx-pipeline-root", "/tfx"], "the pipeline root /tfx is neither below /warmstart"),
    "mount": (["--mount", "/"], "is not a folder that a volume can be mounted at"),
    "claim": (["--volume-claim", "My_Claim"], "--volume-claim 'My_Claim' is not a valid name in Kubernetes"),
    "secret": (["--metadata-secret", "My_Secret"], "--metadata-secret 'My_Secret' is not a valid name in Kubernetes"),
    "sub path": (["--sub-path", "../other"], "--sub-path '../other' is not a folder inside the claim"),
    "user": (["--run-as", "1000"], "--run-as '1000' is not a user and a group; expected two numbers such as 1000:1000"),
    "user root": (["--run-as", "0:0"], "--run-as '0:0' is not a user and a group"),
    "metadata": (["--metadata", "localhost:8080"], "'localhost:8080' is not a metadata address"),
    "password": (["--metadata", "mysql://ann:hidden@db/meta"], "contains a password"),
    "image": (["--image", "Not An Image"], "'Not An Image' is not an image reference"),
}


@pytest.mark.parametrize(("options", "told"), BAD.values(), ids=BAD)
def test_compile_refuses_bad_input_in_one_line_and_writes_nothing(image, options, told):
    line = refused("compile", *wanted(image), *options)
    assert told in line
    assert "hidden" not in line
    assert os.listdir() == []


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("place", ["absent/package.yaml", "."])
def test_a_package_that_cannot_be_written_is_one_line(image, place):
    line = refused("compile", *wanted(image), "--output", place)
    assert f"{Path(place)} cannot be written" in line
    assert os.listdir() == []


@pytest.mark.parametrize("missing", ["--config", "--image"])
def test_without_configuration_or_image_the_usage_is_shown(missing):
    given = {"--config": "cats_vs_dogs", "--image": "a/b:1"}
    result = run("compile", *(word for option, value in given.items() if option != missing for word in (option, value)))
    assert result.exit_code == 2
    assert f"Missing option '{missing}'" in result.output


@pytest.mark.slow
@pytest.mark.release
def test_the_image_may_stand_in_the_environment(monkeypatch, image):
    monkeypatch.setenv("WARMSTART_IMAGE", image)
    done("compile", "--config", "cats_vs_dogs")
    assert image in Path("cats_vs_dogs.yaml").read_text()


@pytest.mark.slow
@pytest.mark.release
def test_as_a_process_compile_says_one_line_and_libraries_say_nothing(tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "deploy.cli", "kubeflow", "compile", "--config", "species", "--image", "a/b:1"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert re.fullmatch(r"species\.yaml: the pipeline species, \d+ tasks, \d+ kB\n", process.stdout)
    assert process.stderr == ""


# ---- submit


def test_submit_uploads_the_package_starts_a_run_and_prints_its_address(image):
    with KfpApiStub() as stub:
        lines = done("submit", *wanted(image), "--endpoint", stub.address).splitlines()
    assert stub.state.counts() == (1, 1, 1, 1, 0)
    [version], [(run_id, started)] = stub.state.versions.values(), stub.state.runs.items()
    assert lines == [
        f"pipeline {PIPELINE}: uploaded, {version['pipeline_version_id']}",
        f"run {run_id}",
        f"{stub.address}/#/runs/details/{run_id}",
    ]
    assert [one["display_name"] for one in stub.state.experiments.values()] == [PIPELINE]
    assert re.fullmatch(rf"{PIPELINE} \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", started["display_name"])
    [upload] = stub.sent("POST", "/apis/v2beta1/pipelines/upload_version")
    done("compile", *wanted(image))
    assert upload.body["uploadfile"]["content"] == Path("cats_vs_dogs.yaml").read_bytes()


@pytest.mark.slow
@pytest.mark.release
def test_submitting_the_same_again_uploads_nothing(stub, image):
    done("submit", *wanted(image))
    assert f"pipeline {PIPELINE}: already there, " in done("submit", *wanted(image))
    assert stub.state.counts() == (1, 1, 1, 2, 0)
    assert "uploaded" in done("submit", *wanted(image), "--set", "image.size=64")
    assert stub.state.counts() == (1, 2, 1, 3, 0)


@pytest.mark.slow
@pytest.mark.release
def test_span_and_force_are_of_this_run_and_not_of_the_version(stub, image):
    photos = ["--data", "/warmstart/span-{SPAN}"]
    done("submit", *wanted(image), *photos)
    done("submit", *wanted(image), *photos, "--span", "17", "--force-push", " a new camera ")
    assert stub.state.counts() == (1, 1, 1, 2, 0)
    given = [run["runtime_config"].get("parameters") or {} for run in stub.state.runs.values()]
    assert given == [{}, {"span": "17", "force_push": "a new camera"}]
    uploads = stub.sent("POST", "/apis/v2beta1/pipelines/upload_version")
    [spec, _] = yaml.safe_load_all(uploads[0].body["uploadfile"]["content"])
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["span"]["defaultValue"] == parameters["force_push"]["defaultValue"] == ""


def test_names_and_account_are_those_that_were_asked_for(stub, image):
    options = ["--experiment", "cats", "--run-name", "at noon", "--service-account", "trainer"]
    done("submit", *wanted(image), *options)
    [run] = stub.state.runs.values()
    assert (run["display_name"], run["service_account"]) == ("at noon", "trainer")
    assert [one["display_name"] for one in stub.state.experiments.values()] == ["cats"]


def frame(state: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"state": state, "run_details": {"task_details": list(tasks)}, **more}


def play(
    stub: KfpApiStub, monkeypatch: pytest.MonkeyPatch, *frames: dict[str, Any], sleep=lambda seconds: None
) -> None:
    """What the next run will look like, one question after the other; nobody waits between them."""
    add_run = stub.add_run

    def add(body: dict[str, Any]) -> dict[str, Any]:
        run = add_run(body)
        stub.frames[run["run_id"]] = list(frames)
        return run

    monkeypatch.setattr(stub, "add_run", add)
    monkeypatch.setattr(runs, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))


def test_followed_to_a_good_end(stub, image, monkeypatch):
    around = (task("root", "RUNNING"), task("prepare-driver", "SUCCEEDED", 1))
    prepared, read = task("prepare", "SUCCEEDED", 12), task("image-example-gen", "SUCCEEDED", 75)
    play(
        stub,
        monkeypatch,
        frame("PENDING"),
        frame("RUNNING", *around, task("prepare", "RUNNING")),
        frame("RUNNING", *around, prepared, task("image-example-gen", "RUNNING")),
        frame("RUNNING", *around, prepared, read, task("pusher", "SUCCEEDED", 1)),
        frame("SUCCEEDED", *around, prepared, read, task("pusher", "SUCCEEDED", 1)),
    )
    lines = done("submit", *wanted(image), "--follow").splitlines()[3:]
    assert [line.split() for line in lines] == [
        ["Prepare", "running"],
        ["Prepare", "succeeded", "12", "s"],
        ["ImageExampleGen", "running"],
        ["ImageExampleGen", "succeeded", "75", "s"],
        ["Pusher", "succeeded", "1", "s"],
        ["status:", "succeeded"],
    ]


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("SUCCEEDED", "not_pushed", 3),
        ("SUCCEEDED", "pushed", 0),
        ("SUCCEEDED", "skipped", 0),
        ("SUCCEEDED", "of another version", None),
        ("FAILED", "stopped", 2),
        ("FAILED", "failed", 1),
        ("FAILED", "pushed", None),
    ],
)
def test_followed_where_the_root_can_be_read_its_summary_says_how_it_ended(
    stub, image, monkeypatch, tmp_path, state, status, code
):
    """Kubeflow calls a run that pushed nothing, by verdict, a success; its API does not know more."""
    root = tmp_path / "volume" / "runs" / "cats"

    def report(seconds: float) -> None:
        [run_id] = stub.state.runs
        folder = root / "reports" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps({"status": status, "reason": "it is no better"}))

    play(stub, monkeypatch, frame("RUNNING"), frame(state), sleep=report)
    options = ["--mount", str(tmp_path / "volume"), "--root", str(root), "--follow"]
    without_summary = int(state != "SUCCEEDED")
    last = done("submit", *wanted(image), *options, code=without_summary if code is None else code).splitlines()[-1]
    assert last == (f"status: {state.lower()}" if code is None else f"status: {status}  it is no better")


def test_followed_to_a_bad_end(stub, image, monkeypatch):
    failed = task("fine-tuning", "FAILED", 9, "OOMKilled (exit code 137)")
    play(
        stub,
        monkeypatch,
        frame("RUNNING", task("fine-tuning", "RUNNING")),
        frame("FAILED", failed, task("report", "FAILED", 3), error={"code": 2, "message": "2 tasks failed"}),
    )
    lines = done("submit", *wanted(image), "--follow", code=1).splitlines()
    assert lines[-4:] == [
        "status: failed",
        "  FineTuning: OOMKilled (exit code 137)",
        "  Report: see its log in Kubeflow",
        "  2 tasks failed",
    ]


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_a_run_that_was_ended_by_somebody_is_no_success(stub, image, monkeypatch, state):
    play(stub, monkeypatch, frame(state))
    assert f"status: {state.lower()}" in done("submit", *wanted(image), "--follow", code=1)


def test_ctrl_c_ends_the_following_and_not_the_run(stub, image, monkeypatch):
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    play(stub, monkeypatch, frame("RUNNING", task("prepare", "RUNNING")), sleep=interrupt)
    output = done("submit", *wanted(image), "--follow")
    [run_id] = stub.state.runs
    assert output.splitlines()[-1] == f"no longer following; the run continues: {stub.address}/#/runs/details/{run_id}"


def test_a_run_that_cannot_be_followed_any_more_goes_on(stub, image, monkeypatch):
    play(stub, monkeypatch, frame("RUNNING"))
    stub.fail("GET", "/apis/v2beta1/runs/", status=401)
    result = run("submit", *wanted(image), "--follow")
    assert result.exit_code == 2
    line = result.output.splitlines()[-1]
    assert line.startswith("error: Kubeflow Pipelines at ")
    assert "refused the token" in line
    assert "the run continues: " in line
    assert stub.state.counts() == (1, 1, 1, 1, 0)


SCHEDULE = ["schedule", "set", "nightly", "--cron", "0 3 * * *"]


@pytest.mark.parametrize("command", [["submit"], SCHEDULE], ids=["submit", "schedule"])
@pytest.mark.parametrize(("options", "told"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_nothing_is_made(stub, image, command, options, told):
    line = refused(*command, *wanted(image), *options)
    assert told in line
    assert "hidden" not in line
    assert stub.state.counts() == NOTHING
    assert stub.writes() == []


EVERY = {
    "submit": ["submit", "--config", "cats_vs_dogs"],
    "set": [*SCHEDULE, "--config", "cats_vs_dogs"],
    "list": ["schedule", "list"],
    "delete": ["schedule", "delete", "nightly"],
}


@pytest.fixture(params=EVERY.values(), ids=EVERY)
def command(request, image, monkeypatch, compiled_once) -> list[str]:
    """Every command that asks a server."""
    monkeypatch.setenv("WARMSTART_IMAGE", image)
    return request.param


def test_an_unreachable_endpoint_is_one_line(command):
    assert "127.0.0.1:9" in refused(*command, "--endpoint", "127.0.0.1:9")


def test_without_an_endpoint_and_a_kubeconfig_there_is_one_line(command, monkeypatch, tmp_path):
    from kubernetes.config import kube_config

    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "absent"))
    assert "no kubeconfig" in refused(*command)


def test_a_refused_token_is_one_line_that_does_not_repeat_it(command, monkeypatch):
    with KfpApiStub(token="right") as stub:
        monkeypatch.setenv("KFP_ENDPOINT", stub.address)
        assert "KFP_TOKEN" in refused(*command)
        monkeypatch.setenv("KFP_TOKEN", TOKEN)
        line = refused(*command)
        assert "refused the token" in line
        assert TOKEN not in line
        assert "refused the token" in refused(*command, "--token", "another")
        assert stub.state.counts() == NOTHING


def test_an_unknown_namespace_is_one_line(command, monkeypatch):
    with KfpApiStub(many_users=True) as stub:
        monkeypatch.setenv("KFP_ENDPOINT", stub.address)
        assert "'team-b'" in refused(*command, "--namespace", "team-b")
        assert "Kubernetes namespace" in refused(*command, "--namespace", "Team B")
        assert stub.state.counts() == NOTHING


@pytest.mark.parametrize(("kind", "version", "told"), [
    ("v1", "1.8.5", "1.8.5"),
    ("v2", "2.4.1", "2.4.1"),
    ("html", "2.5.0", "answered with a web page"),
    ("other", "2.5.0", "is not Kubeflow"),
])  # fmt: skip
def test_a_server_that_will_not_do_is_one_line(command, monkeypatch, kind, version, told):
    with KfpApiStub(kind, version=version) as stub:
        monkeypatch.setenv("KFP_ENDPOINT", stub.address)
        assert told in refused(*command)
        assert stub.writes() == []


@pytest.mark.parametrize("command", [["submit"], SCHEDULE], ids=["submit", "schedule"])
@pytest.mark.parametrize("version", ["3.0.0", ""])
def test_kubeflows_metadata_where_there_is_none_is_one_line_and_nothing_is_made(command, image, monkeypatch, version):
    with KfpApiStub(version=version) as stub:
        monkeypatch.setenv("KFP_ENDPOINT", stub.address)
        line = refused(*command, *wanted(image), "--metadata", "grpc://metadata-grpc-service.kubeflow:8080")
        assert "--metadata grpc://warmstart-metadata:8080" in line
        assert stub.writes() == []


def test_flags_go_before_the_environment(command, monkeypatch):
    monkeypatch.setenv("KFP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("KFP_TOKEN", "of the environment")
    monkeypatch.setenv("KFP_NAMESPACE", "team-b")
    with KfpApiStub(many_users=True, token=TOKEN) as stub:
        options = ["--endpoint", stub.address, "--token", TOKEN, "--namespace", "team-a"]
        output = refused(*command, *options) if "delete" in command else done(*command, *options)
        assert TOKEN not in output
        assert {request.headers["authorization"] for request in stub.requests} == {f"Bearer {TOKEN}"}
        assert stub.requests[-1].query.get("namespace", "team-a") == "team-a"


@pytest.mark.parametrize("command", [["submit"], SCHEDULE], ids=["submit", "schedule"])
def test_a_name_taken_by_another_pipeline_is_one_line(stub, image, command):
    stub.add_pipeline(PIPELINE, description="somebody else's")
    assert f"'{PIPELINE}' is taken" in refused(*command, *wanted(image))
    assert stub.writes() == []


@pytest.mark.parametrize(
    ("command", "last"),
    [(["submit"], "/apis/v2beta1/runs$"), (SCHEDULE, "/apis/v2beta1/recurringruns$")],
    ids=["submit", "schedule"],
)
@pytest.mark.parametrize("how", [{"status": 400, "message": "no quota"}, {"after": True}, {"drop": True}])
def test_what_fails_at_the_last_step_leaves_nothing_behind(stub, image, command, last, how):
    stub.fail("POST", last, **how)
    assert "what had been created was deleted again" in refused(*command, *wanted(image))
    assert stub.state.counts() == NOTHING


def test_force_without_a_reason_is_refused(stub, image):
    assert "--force-push" in refused("submit", *wanted(image), "--force-push", " ")
    assert stub.requests == []


# ---- schedules


def test_a_schedule_is_set_shown_changed_and_deleted(stub, image):
    package = wanted(image)
    lines = done(*SCHEDULE, *package).splitlines()
    assert lines[0] == f"schedule nightly: created; the pipeline {PIPELINE}, 0 3 * * * in UTC"
    assert len(lines) == 4
    assert all(re.fullmatch(r"  next \d{4}-\d\d-\d\d 03:00 UTC", line) for line in lines[1:])
    assert stub.state.counts() == (1, 1, 1, 0, 1)
    [made] = stub.state.recurring_runs.values()
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert (made["max_concurrency"], made["no_catchup"], made["mode"]) == ("1", True, "ENABLE")

    before = stub.writes()
    assert done(*SCHEDULE, *package).splitlines()[0].startswith("schedule nightly: unchanged; ")
    assert stub.writes() == before

    assert done("schedule", "list") == "nightly  0 3 * * * in UTC\n"
    made["mode"] = "DISABLE"
    assert done("schedule", "list") == "nightly  0 3 * * * in UTC  (switched off)\n"
    [told] = json.loads(done("schedule", "list", "--json"))
    assert (told["name"], told["kfp_cron"], told["enabled"]) == ("nightly", "0 0 3 * * *", False)

    moved = ["schedule", "set", "nightly", "--cron", "30 2 * * mon", "--time-zone", "Asia/Kolkata", *package]
    lines = done(*moved, "--service-account", "trainer", "--experiment", "cats").splitlines()
    assert lines[0] == f"schedule nightly: replaced; the pipeline {PIPELINE}, 30 2 * * mon in Asia/Kolkata"
    assert all(re.fullmatch(r"  next \d{4}-\d\d-\d\d 02:30 IST", line) for line in lines[1:])
    [made] = stub.state.recurring_runs.values()
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 21 * * 0"
    assert made["service_account"] == "trainer"

    assert done("schedule", "delete", "nightly") == "schedule nightly: deleted\n"
    assert stub.state.recurring_runs == {}
    assert done("schedule", "list") == "warmstart has created no schedules here\n"
    assert json.loads(done("schedule", "list", "--json")) == []


@pytest.mark.slow
@pytest.mark.release
def test_another_image_replaces_a_schedule_and_the_span_goes_into_it(stub, image):
    photos = ["--data", "/warmstart/span-{SPAN}"]
    done(*SCHEDULE, *wanted(image), *photos)
    newer = wanted(image.replace(":1.0", ":1.1"))
    assert "nightly: replaced;" in done(*SCHEDULE, *newer, *photos)
    assert "nightly: replaced;" in done(*SCHEDULE, *newer, *photos, "--span", "17")
    [_, _, upload] = stub.sent("POST", "/apis/v2beta1/pipelines/upload_version")
    [spec, _] = yaml.safe_load_all(upload.body["uploadfile"]["content"])
    assert spec["root"]["inputDefinitions"]["parameters"]["span"]["defaultValue"] == "17"
    assert stub.state.counts() == (1, 3, 1, 0, 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--cron", "0 3 * *"], "has 4 fields; expected five"),
        (["--cron", "0 25 * * *"], "hour '25'"),
        (["--cron", "0 3 31 2 *"], "never comes"),
        (["--cron", "0 3 * * *", "--time-zone", "Mars/Olympus"], "'Mars/Olympus'"),
        (["--cron", "0 3 * * *", "--time-zone", "Europe/Berlin"], "one time zone"),
    ],
)
def test_a_time_that_kfp_cannot_be_told_is_one_line_and_nobody_is_asked(stub, image, options, told):
    assert told in refused("schedule", "set", "nightly", *options, *wanted(image))
    assert stub.requests == []


def test_the_zone_of_the_cluster_makes_other_zones_possible(stub, image):
    zones = ["--time-zone", "Europe/Berlin", "--cluster-time-zone", "Europe/Berlin"]
    assert "0 3 * * * in Europe/Berlin" in done(*SCHEDULE, *zones, *wanted(image))


def test_a_schedule_that_is_not_there_or_not_ours_is_one_line(stub):
    assert "no schedule 'nightly'" in refused("schedule", "delete", "nightly")
    stub.add_recurring_run({"display_name": "nightly", "mode": "ENABLE"})
    assert "not created by" in refused("schedule", "delete", "nightly")
    assert len(stub.state.recurring_runs) == 1


@pytest.mark.slow
@pytest.mark.release
def test_a_schedule_of_another_pipeline_is_not_replaced(stub, image):
    done(*SCHEDULE, *wanted(image))
    before = stub.writes()
    line = refused(*SCHEDULE, *wanted(image, "species"))
    assert "of another pipeline" in line
    assert stub.writes() == before


def test_a_schedule_whose_run_is_going_on_stays(stub, image):
    done(*SCHEDULE, *wanted(image))
    [(schedule_id, made)] = stub.state.recurring_runs.items()
    stub.add_run({"experiment_id": made["experiment_id"], "recurring_run_id": schedule_id, "display_name": "one"})
    moved = ["schedule", "set", "nightly", "--cron", "0 4 * * *", *wanted(image)]
    for arguments in (moved, ["schedule", "delete", "nightly"]):
        assert "is in progress" in refused(*arguments)
    assert list(stub.state.recurring_runs) == [schedule_id]
