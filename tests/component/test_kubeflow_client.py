"""`deploy.kubeflow.client` against a stub of KFP's API.

The same tests, and those of the package and its linter, run with the `kfp` of the locked environment and, in
`test_the_newest_kfp_client_passes_too`, with the newest one, in an environment of its own without TFX.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubeflow import client
from deploy.kubeflow.client import Connection, Endpoint, Followed, TaskChange
from deploy.kubeflow.package_file import Package, read_package
from deploy.timetable import timetable
from schemas.errors import BadInput
from tests.kfp_api_stub import KfpApiStub, Request, task

REPOSITORY = Path(__file__).parents[2]
PIPELINE, EXPERIMENT, RUN, NIGHTLY = "warmstart-cats-vs-dogs", "cats", "cats at noon", "nightly"
RUNS, RECURRING = "/apis/v2beta1/runs", "/apis/v2beta1/recurringruns"
UPLOAD = "/apis/v2beta1/pipelines/upload_version"
NOTHING = (0, 0, 0, 0, 0)
# What needs `kfp` and no TFX.
TESTS_OF_KFP = (
    Path(__file__),
    REPOSITORY / "tests" / "component" / "test_kubeflow_compiler.py",
    REPOSITORY / "tests" / "unit" / "test_kubeflow_lint.py",
)


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


def connected(server: KfpApiStub, namespace: str | None = None, token: str | None = None) -> Connection:
    return client.connect(client.find_endpoint(server.address, namespace, token))


def submitted(connection: Connection, package: Package, **options: Any) -> client.Submitted:
    return client.submit(connection, package, PIPELINE, EXPERIMENT, RUN, **options)


def scheduled(
    connection: Connection, package: Package, cron: str = "0 3 * * *", zone: str = "UTC", **options: Any
) -> client.Scheduled:
    return client.schedule(connection, package, PIPELINE, NIGHTLY, timetable(cron, zone), EXPERIMENT, **options)


def sentence(error: pytest.ExceptionInfo[BadInput]) -> str:
    """The message, which must be one line without a trace of Python."""
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    assert "HTTPConnectionPool" not in text
    return text


def edited(package_file: Path, tmp_path: Path, old: str, new: str) -> Path:
    text = package_file.read_text()
    assert old in text
    changed = tmp_path / "changed.yaml"
    changed.write_text(text.replace(old, new))
    return changed


# ---- the package


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
    assert "compile it anew" in sentence(error)


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
    with pytest.raises(BadInput, match=r"no \.yaml file"):
        read_package(tmp_path / "package.json", {})


# ---- when it runs


@pytest.mark.parametrize(
    ("cron", "zone", "cluster_zone", "sent"),
    [
        ("0 3 * * *", "UTC", "UTC", "0 0 3 * * *"),
        ("*/15 8-18 * * mon-fri", "UTC", "UTC", "0 */15 8-18 * * mon-fri"),
        ("0 3 * * 7", "UTC", "UTC", "0 0 3 * * 0"),
        ("0 3 * * 5-7", "UTC", "UTC", "0 0 3 * * 0,5,6"),
        ("0 3 * * 1-5/2,7", "UTC", "UTC", "0 0 3 * * 0,1,3,5"),
        ("0 3 1 JAN *", "UTC", "UTC", "0 0 3 1 jan *"),
        # India is 5:30 ahead of UTC all year, Arizona 7:00 behind.
        ("0 3 * * *", "Asia/Kolkata", "UTC", "0 30 21 * * *"),
        ("0 3 * * mon", "Asia/Kolkata", "UTC", "0 30 21 * * 0"),
        ("0 23 * * mon", "America/Phoenix", "UTC", "0 0 6 * * 2"),
        ("0 9 1 * *", "America/Phoenix", "UTC", "0 0 16 1 * *"),
        # Zones whose clocks change together.
        ("0 3 * * *", "Europe/Berlin", "Europe/Berlin", "0 0 3 * * *"),
        ("0 3 * * *", "Europe/Berlin", "Europe/Lisbon", "0 0 2 * * *"),
        # The same in every hour.
        ("30 * * * *", "Europe/Berlin", "UTC", "0 30 * * * *"),
    ],
)
def test_five_fields_become_six_in_the_zone_of_the_cluster(cron, zone, cluster_zone, sent):
    assert timetable(cron, zone, cluster_zone).kfp_cron == sent


@pytest.mark.parametrize(
    ("cron", "found"),
    [
        ("", "0 fields"),
        ("0 3 * *", "4 fields"),
        ("0 0 3 * * *", "leave out the seconds"),
        ("@daily", "1 field;"),
        ("CRON_TZ=Europe/Berlin 0 3 * * *", "6 fields"),
        ("60 3 * * *", "minute '60' is not within 0 to 59"),
        ("0 24 * * *", "hour '24' is not within 0 to 23"),
        ("0 3 0 * *", "day of the month '0' is not within 1 to 31"),
        ("0 3 * 13 *", "month '13' is not within 1 to 12"),
        ("0 3 * * 8", "day of the week '8'"),
        ("0 3 * * fri-mon", "ends before it begins"),
        ("*/0 3 * * *", "step of 0"),
        ("0 3 L * *", "no value, range"),
        ("0 3 ? * 1", "no value, range"),
        ("0 3 * * 1#2", "no value, range"),
        ("0 3,,4 * * *", "no value, range"),
        ("a b c d e", "minute 'a'"),
        ("\u0663 3 * * *", "minute"),
        ("0 3 31 2 *", "never comes"),
        ("0 3 13 * 5", "both the day of the month and the day of the week"),
    ],
)
def test_an_invalid_cron_expression_is_one_sentence(cron, found):
    with pytest.raises(BadInput) as error:
        timetable(cron)
    assert found in sentence(error)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "/etc/hostname", "../UTC", "utc+1"])
def test_an_unknown_time_zone_is_one_sentence(zone):
    with pytest.raises(BadInput, match="no time zone") as error:
        timetable("0 3 * * *", zone)
    sentence(error)
    with pytest.raises(BadInput, match="no time zone"):
        timetable("0 3 * * *", "UTC", zone)


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("0 3 * * *", "Europe/Berlin"),  # 1 or 2 o'clock UTC
        ("0 23 1 * *", "America/Phoenix"),  # the day after the first of a month is no day of the month
        ("0,30 3,5 * * *", "Asia/Kolkata"),  # 21:30, 22:00, 23:30 and 0:00 are no minutes by hours
    ],
)
def test_a_time_that_kfp_cannot_be_told_is_refused_and_not_rounded(cron, zone):
    with pytest.raises(BadInput, match="one time zone for all schedules") as error:
        timetable(cron, zone)
    assert "cronScheduleTimezone" in sentence(error)


def test_the_next_times_are_those_of_the_zone():
    noon = datetime(2026, 3, 27, 12, tzinfo=timezone.utc)

    def next_times(cron: str, zone: str, count: int = 3) -> list[str]:
        return [one.isoformat() for one in timetable(cron, zone, zone).next_times(count, noon)]

    # 2:30 does not exist on 29 March, when Berlin's clocks go from 2 to 3.
    assert next_times("30 2 * * *", "Europe/Berlin") == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ]
    assert next_times("0 0 29 2 *", "UTC", 2) == ["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00"]
    assert next_times("0 12 * * fri", "UTC", 1) == ["2026-04-03T12:00:00+00:00"]


# ---- where it is


def test_flags_go_before_the_environment(monkeypatch):
    monkeypatch.setenv("KFP_ENDPOINT", "http://from.environment:8080")
    monkeypatch.setenv("KFP_NAMESPACE", "from-environment")
    monkeypatch.setenv("KFP_TOKEN", "secret-1")
    from_environment = Endpoint("http://from.environment:8080", "from-environment", "secret-1")
    assert client.find_endpoint(None, None, None) == from_environment
    from_flags = Endpoint("https://from.flags", "from-flags", "secret-2")
    assert client.find_endpoint("https://from.flags", "from-flags", "secret-2") == from_flags


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("kubeflow.example/pipeline/", "https://kubeflow.example/pipeline"),
        ("https://kubeflow.example/pipeline/#/runs", "https://kubeflow.example/pipeline"),
    ],
)
def test_an_address_is_taken_as_a_browser_shows_it(given, address):
    assert client.find_endpoint(given, None, None).host == address


@pytest.mark.parametrize("given", ["ftp://a", "http://", "http://a:port", "http://[", "https:///x", "a b"])
def test_what_is_no_address_is_one_sentence(given):
    with pytest.raises(BadInput, match="is no address") as error:
        client.find_endpoint(given, None, None)
    sentence(error)


def test_a_token_without_an_address_and_a_bad_namespace_are_refused():
    with pytest.raises(BadInput, match="without an endpoint"):
        client.find_endpoint(None, None, "secret")
    with pytest.raises(BadInput, match="no name of a Kubernetes namespace"):
        client.find_endpoint("http://localhost:1", "Team A", None)


def test_a_token_and_a_password_are_not_shown():
    endpoint = client.find_endpoint("https://ann:hidden@kubeflow.example/pipeline", None, "secret")
    assert "secret" not in repr(endpoint)
    assert endpoint.shown() == "https://kubeflow.example/pipeline"


def test_nothing_is_read_or_imported_before_a_cluster_is_contacted():
    slow = ("kfp", "kfp_server_api", "kubernetes", "requests", "urllib3")
    code = f"import sys; import deploy.kubeflow.client; print([one for one in {slow} if one in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


# ---- the connection


def test_a_server_of_one_user_is_asked_without_a_namespace(stub):
    connection = connected(stub, "kubeflow")
    assert (connection.namespace, connection.version) == ("", "2.5.0")
    assert all(not request.query.get("namespace") for request in stub.requests)


def test_a_server_of_many_users_is_asked_for_the_namespace():
    with KfpApiStub(many_users=True) as stub:
        assert connected(stub, "team-a").namespace == "team-a"
        assert stub.requests[-1].query["namespace"] == "team-a"


@pytest.mark.parametrize("version", ["2.5.0", "2.17.3", "2.5.0-rc.1", "v2.10.1", "master", ""])
def test_a_version_that_will_do_or_is_not_told_is_taken(version):
    with KfpApiStub(version=version) as stub:
        assert connected(stub).version in (version, "")


@pytest.mark.parametrize("kind", ["v2", "pages"])
def test_a_backend_older_than_2_5_is_refused(kind):
    refusal = pytest.raises(BadInput, match=r"is version 2\.4\.1; the pipeline needs 2\.5\.0")
    with KfpApiStub(kind, version="2.4.1") as stub, refusal as error:
        connected(stub)
    sentence(error)


def test_the_server_of_kubeflows_pages_is_taken_too():
    with KfpApiStub("pages", version="2.9.0", many_users=True) as stub:
        connection = connected(stub, "team-a")
    assert (connection.version, connection.namespace) == ("2.9.0", "team-a")


def test_an_unreachable_endpoint_is_one_sentence():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(BadInput, match=r"cannot be reached \(connection refused\)") as error:
        client.connect(client.find_endpoint(f"http://127.0.0.1:{port}", None, None))
    assert f"127.0.0.1:{port}" in sentence(error)


def test_a_server_without_tls_is_not_taken_for_one_with(stub):
    with pytest.raises(BadInput, match="TLS certificate was not accepted") as error:
        client.connect(client.find_endpoint(stub.address.replace("http:", "https:"), None, None))
    sentence(error)


def test_the_address_of_kubeflows_pages_may_be_another(connection, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example/pipeline/")
    assert connection.run_url("r") == "https://kubeflow.example/pipeline/#/runs/details/r"
    assert connection.ui_hint() == ""


def test_an_unknown_host_is_one_sentence():
    with pytest.raises(BadInput, match=r"cannot be reached \(no such host\)"):
        client.connect(client.find_endpoint("http://no-such-host.invalid", None, None))


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    assert client._CONNECT_SECONDS + client._FIRST_ANSWER_SECONDS < 15
    monkeypatch.setattr(client, "_FIRST_ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(BadInput, match=r"cannot be reached \(connected, but no answer in time\)"):
            client.connect(client.find_endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}", None, None))
    assert time.monotonic() - began < 5


def test_a_host_that_takes_no_connection_is_given_up(monkeypatch):
    monkeypatch.setattr(client, "_CONNECT_SECONDS", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        began = time.monotonic()
        with pytest.raises(BadInput, match="cannot be reached"):
            client.connect(client.find_endpoint(f"http://127.0.0.1:{full.getsockname()[1]}", None, None))
        for filler in fillers:
            filler.close()
    assert time.monotonic() - began < 5


def test_a_refused_token_is_one_sentence():
    with KfpApiStub(token="right") as stub:
        with pytest.raises(BadInput, match="refused the token") as error:
            connected(stub, token="wrong")
        assert "wrong" not in sentence(error)
        with pytest.raises(BadInput, match="wants a token; give one"):
            connected(stub)
        assert connected(stub, token="right").version == "2.5.0"
    assert stub.requests[-1].headers["authorization"] == "Bearer right"


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_health_takes_and_the_api_refuses_is_one_sentence(stub, status):
    stub.fail("GET", "/experiments$", status=status, message="RBAC: access denied")
    with pytest.raises(BadInput, match="refused the token"):
        connected(stub, token="some")


def test_an_unknown_namespace_is_one_sentence():
    refusal = pytest.raises(BadInput, match="has no namespace 'team-b' that you may use")
    with KfpApiStub(many_users=True) as stub, refusal as error:
        connected(stub, "team-b")
    sentence(error)


@pytest.mark.parametrize("kind", ["html", "redirect"])
def test_a_login_page_is_not_taken_for_an_answer(kind):
    with KfpApiStub(kind) as stub, pytest.raises(BadInput, match="answered with a web page") as error:
        connected(stub)
    assert "token" in sentence(error)


def test_kfp_1_is_refused():
    refusal = pytest.raises(BadInput, match=r"is Kubeflow Pipelines 1\.8\.5, without the API v2beta1")
    with KfpApiStub("v1", version="1.8.5") as stub, refusal:
        connected(stub)


def test_another_server_is_refused():
    refusal = pytest.raises(BadInput, match=r"is no Kubeflow Pipelines 2\.x: it answered 404")
    with KfpApiStub("other") as stub, refusal:
        connected(stub)


def kubeconfig(folder: Path, server: str) -> Path:
    file = folder / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "ann"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "ann", "user": {"token": "from-kubeconfig"}}],
            }
        )
    )
    return file


def use_kubeconfig(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    from kubernetes.config import kube_config

    # Read once, when the module is imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))


def test_without_an_endpoint_the_kubeconfig_leads_to_the_service(monkeypatch, tmp_path, package):
    prefix = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
    with KfpApiStub(prefix=prefix, token="from-kubeconfig") as stub:
        use_kubeconfig(monkeypatch, kubeconfig(tmp_path, f"http://127.0.0.1:{stub.port}"))
        connection = client.connect(client.find_endpoint(None, None, None))
        run = submitted(connection, package)
        assert run.run_url == f"http://localhost:8080/#/runs/details/{run.run_id}"
        assert connection.ui_hint() == "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
        assert {one.path.startswith(prefix) for one in stub.requests} == {True}
        with pytest.raises(BadInput, match="no Kubeflow Pipelines in the namespace 'elsewhere'"):
            client.connect(client.find_endpoint(None, "elsewhere", None))


def test_without_an_endpoint_and_a_kubeconfig_there_is_one_sentence(monkeypatch, tmp_path, capfd):
    use_kubeconfig(monkeypatch, tmp_path / "absent")
    with pytest.raises(BadInput, match="no endpoint was given and no kubeconfig was found"):
        client.connect(client.find_endpoint(None, None, None))
    assert capfd.readouterr().out == ""


# ---- submit


def only(requests: list[Request]) -> Request:
    assert len(requests) == 1
    return requests[0]


def test_submit_makes_pipeline_version_experiment_and_run(stub, connection, package, package_file):
    run = submitted(connection, package, service_account="trainer")
    assert stub.state.counts() == (1, 1, 1, 1, 0)
    assert run.new_version
    assert run.run_url == f"{stub.address}/#/runs/details/{run.run_id}"

    pipeline = only(stub.sent("POST", "/apis/v2beta1/pipelines")).body
    assert pipeline["display_name"] == PIPELINE
    assert pipeline["description"].startswith("made by warmstart")
    upload = only(stub.sent("POST", UPLOAD))
    assert upload.query["pipelineid"] == run.pipeline_id
    assert upload.query["name"] == f"{PIPELINE}-{package.digest[:12]}"
    assert upload.body["uploadfile"]["filename"] == "package.yaml"
    assert upload.body["uploadfile"]["content"] == package_file.read_bytes()
    assert only(stub.sent("POST", "/apis/v2beta1/experiments")).body["display_name"] == EXPERIMENT
    assert only(stub.sent("POST", RUNS)).body == {
        "display_name": RUN,
        "experiment_id": next(iter(stub.state.experiments)),
        "pipeline_version_reference": {"pipeline_id": run.pipeline_id, "pipeline_version_id": run.version_id},
        "runtime_config": {"parameters": {"config": "cats_vs_dogs"}},
        "service_account": "trainer",
    }


def test_the_uploaded_package_has_caching_off_for_every_task(stub, connection, package):
    submitted(connection, package)
    content = only(stub.sent("POST", UPLOAD)).body["uploadfile"]["content"]
    spec = next(yaml.safe_load_all(content))
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    options = [task.get("cachingOptions", {}) for dag in dags for task in dag["tasks"].values()]
    containers = [one for one in options if not one.get("enableCache")]
    assert len(options) == 4  # three containers, and the group that the exit task waits for
    assert len(containers) == len(options)


def test_submitting_again_makes_a_run_and_nothing_else(stub, connection, package, package_file, tmp_path):
    first = submitted(connection, package)
    second = submitted(connection, package)
    assert stub.state.counts() == (1, 1, 1, 2, 0)
    assert (second.pipeline_id, second.version_id, second.new_version) == (first.pipeline_id, first.version_id, False)
    assert second.run_id != first.run_id

    changed = edited(package_file, tmp_path, "warmstart:1.0", "warmstart:1.1")
    third = submitted(connection, read_package(changed, {"config": "cats_vs_dogs"}))
    assert third.new_version
    assert stub.state.counts() == (1, 2, 1, 3, 0)


def test_macros_of_kfp_are_passed_on_as_they_are(stub, connection, package_file):
    package = read_package(package_file, {"config": "a", "span": "[[ScheduledTime.2006-01-02]]"})
    scheduled(connection, package)
    sent = only(stub.sent("POST", RECURRING)).body
    assert sent["runtime_config"]["parameters"] == {"config": "a", "span": "[[ScheduledTime.2006-01-02]]"}


def test_many_users_have_their_things_in_their_namespace(package):
    with KfpApiStub(many_users=True) as stub:
        connection = connected(stub, "team-a")
        submitted(connection, package)
        scheduled(connection, package)
        assert [one.name for one in client.list_schedules(connection)] == [NIGHTLY]
        made = [*stub.state.pipelines.values(), *stub.state.experiments.values()]
        assert [one["namespace"] for one in made] == ["team-a", "team-a"]


def test_a_name_taken_by_another_pipeline_is_refused(stub, connection, package):
    stub.add_pipeline(PIPELINE, description="somebody else's")
    for act in (submitted, scheduled):
        with pytest.raises(BadInput, match=f"the name '{PIPELINE}' is taken by another pipeline") as error:
            act(connection, package)
        sentence(error)
    assert stub.writes() == []


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("POST", "/pipelines$", f"create the pipeline '{PIPELINE}'"),
        ("POST", "/upload_version$", "create the version"),
        ("POST", "/experiments$", f"create the experiment '{EXPERIMENT}'"),
        ("POST", "/runs$", f"create the run '{RUN}'"),
        ("GET", "/versions$", "list the pipeline's versions"),
        ("GET", "/runs$", "list the runs"),
    ],
)
@pytest.mark.parametrize(
    "how",
    [
        {"status": 400, "message": "bad"},
        {"status": 500},
        {"after": True},
        {"drop": True},
        {"drop": True, "after": True},
    ],
    ids=["refused", "failed", "done, but told 500", "broken off", "done, but broken off"],
)
def test_whatever_fails_nothing_is_left_behind(stub, connection, package, method, path, asked, how):
    stub.fail(method, path, **how)
    with pytest.raises(BadInput) as error:
        submitted(connection, package)
    assert asked in sentence(error)
    assert stub.state.counts() == NOTHING


@pytest.mark.parametrize("how", [{"status": 500}, {"drop": True, "after": True}])
def test_what_was_there_before_stays(stub, connection, package, how):
    submitted(connection, package)
    kept = set(stub.state.runs)
    stub.fail("POST", "/runs$", **how)
    with pytest.raises(BadInput):
        submitted(connection, package)
    assert stub.state.counts() == (1, 1, 1, 1, 0)
    assert set(stub.state.runs) == kept


def test_what_cannot_be_taken_away_is_named(stub, connection, package):
    stub.fail("POST", "/runs$", status=400, message="no quota")
    stub.fail("DELETE", "/versions/", status=503)
    with pytest.raises(BadInput, match="no quota") as error:
        submitted(connection, package)
    text = sentence(error)
    assert f"the version '{PIPELINE}-" in text
    assert f"the pipeline '{PIPELINE}'" in text  # the server deletes no pipeline that has versions
    assert "could not be taken away again: delete by hand" in text
    assert "experiment" not in text
    assert stub.state.counts() == (1, 1, 0, 0, 0)


def test_an_interruption_leaves_nothing_behind_either(stub, connection, package, monkeypatch):
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection.client, "run_pipeline", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submitted(connection, package)
    assert stub.state.counts() == NOTHING


def test_a_login_that_ran_out_is_not_taken_for_an_empty_list(stub, connection, package):
    stub.kind = "html"
    for act in (submitted, scheduled):
        with pytest.raises(BadInput, match="a web page, not the API") as error:
            act(connection, package)
        sentence(error)
    with pytest.raises(BadInput, match="a web page, not the API"):
        client.list_schedules(connection)
    assert stub.writes() == []


def test_nothing_of_the_sdk_reaches_the_terminal(stub, package, capfd, caplog, recwarn):
    connection = connected(stub)
    submitted(connection, package)
    scheduled(connection, package)
    stub.fail("GET", "/apis/v2beta1/pipelines$", drop=True)
    with pytest.raises(BadInput):
        submitted(connection, package)
    connection.ask("log", logging.getLogger("urllib3").error, "noise")
    assert tuple(capfd.readouterr()) == ("", "")
    assert caplog.records == []
    assert len(recwarn) == 0
    assert logging.root.manager.disable == logging.NOTSET


# ---- follow


def followed(connection: Connection, run_id: str, **options: Any) -> tuple[Followed, list[TaskChange]]:
    changes: list[TaskChange] = []
    return client.follow(connection, run_id, changes.append, poll_seconds=0.01, **options), changes


def frame(state: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"state": state, "run_details": {"task_details": list(tasks)}, **more}


def test_following_tells_each_change_once(stub, connection, package):
    run_id = submitted(connection, package).run_id
    around = (task("root", "RUNNING"), task("root-driver", "SUCCEEDED", 1), task("executor", "RUNNING"))
    stub.frames[run_id] = [
        frame("PENDING"),
        frame("RUNNING", *around, task("image-example-gen", "PENDING")),
        frame("RUNNING", *around, task("image-example-gen", "RUNNING")),
        frame("RUNNING", *around, task("image-example-gen", "RUNNING")),
        frame("RUNNING", task("image-example-gen", "SUCCEEDED", 62), task("evaluate", "RUNNING")),
        frame("SUCCEEDED", task("image-example-gen", "SUCCEEDED", 62), task("evaluate", "SUCCEEDED", 5)),
    ]
    result, changes = followed(connection, run_id, tasks=package.tasks)
    assert result == Followed("SUCCEEDED", (), "")
    assert [(change.name, change.state, change.seconds) for change in changes] == [
        ("ImageExampleGen", "PENDING", None),
        ("ImageExampleGen", "RUNNING", None),
        ("ImageExampleGen", "SUCCEEDED", 62.0),
        ("Evaluator", "RUNNING", None),
        ("Evaluator", "SUCCEEDED", 5.0),
    ]


def test_a_failed_task_comes_out_with_its_error(stub, connection, package):
    run_id = submitted(connection, package).run_id
    failed = task("evaluate", "FAILED", 9, "OOMKilled (exit code 137)\nsecond line")
    stub.frames[run_id] = [frame("FAILED", failed, error={"code": 2, "message": "task evaluate failed"})]
    result, _ = followed(connection, run_id, tasks=package.tasks)
    assert result.state == "FAILED"
    assert result.error == "task evaluate failed"
    assert result.failed == (TaskChange("Evaluator", "FAILED", 9.0, "OOMKilled (exit code 137)"),)


def test_without_names_all_that_look_like_tasks_are_told(stub, connection, package):
    run_id = submitted(connection, package).run_id
    names = ("root", "root-driver", "evaluate", "evaluate-driver", "executor", "warmstart-x7k2p")
    stub.frames[run_id] = [frame("SUCCEEDED", *(task(name, "SUCCEEDED", 3) for name in names))]
    _, changes = followed(connection, run_id)
    assert [change.name for change in changes] == ["evaluate"]


@pytest.mark.parametrize("how", [{"drop": True}, {"status": 503}, {"status": 429}])
def test_following_survives_a_short_loss_of_the_connection(stub, connection, package, how):
    run_id = submitted(connection, package).run_id
    stub.frames[run_id] = [frame("RUNNING"), frame("SUCCEEDED")]
    stub.fail("GET", f"{RUNS}/", times=4, **how)
    result, _ = followed(connection, run_id)
    assert result.state == "SUCCEEDED"
    assert len(stub.sent("GET", f"{RUNS}/{run_id}")) == 6


def test_a_server_that_stays_away_ends_the_following_and_not_the_run(stub, connection, package):
    run = submitted(connection, package)
    stub.fail("GET", f"{RUNS}/", times=10_000, drop=True)
    with pytest.raises(BadInput, match="gave no answer") as error:
        followed(connection, run.run_id, patience_seconds=0.2)
    assert f"the run goes on: {run.run_url}" in sentence(error)
    assert len(stub.sent("GET", f"{RUNS}/{run.run_id}")) > 2
    assert stub.writes()[-1] == ("POST", RUNS)


def test_a_token_that_runs_out_while_following_is_one_sentence(stub, connection, package):
    run = submitted(connection, package)
    stub.fail("GET", f"{RUNS}/", status=401)
    with pytest.raises(BadInput, match="refused the token") as error:
        followed(connection, run.run_id)
    assert run.run_url in sentence(error)


def test_a_run_that_is_not_there_is_one_sentence(connection):
    with pytest.raises(BadInput, match="answered 404 when asked to show the run") as error:
        followed(connection, "no-such-run")
    assert "goes on" not in sentence(error)


def test_ctrl_c_stops_the_following_and_not_the_run(stub, connection, package):
    run_id = submitted(connection, package).run_id
    stub.frames[run_id] = [frame("RUNNING", task("evaluate", "RUNNING"))]

    def interrupt(change: TaskChange) -> None:
        raise KeyboardInterrupt

    result = client.follow(connection, run_id, interrupt, package.tasks, poll_seconds=0.01)
    assert result.stopped
    assert stub.writes()[-1] == ("POST", RUNS)
    assert run_id in stub.state.runs


# ---- schedules


def test_a_schedule_is_made_with_one_run_at_a_time_and_no_catch_up(stub, connection, package):
    made = scheduled(connection, package, "0 3 * * *", "Asia/Kolkata", service_account="trainer")
    assert made.action == "created"
    assert stub.state.counts() == (1, 1, 1, 0, 1)
    assert only(stub.sent("POST", RECURRING)).body == {
        "display_name": NIGHTLY,
        "description": "made by warmstart: 0 3 * * * in Asia/Kolkata",
        "experiment_id": next(iter(stub.state.experiments)),
        "max_concurrency": 1,
        "mode": "ENABLE",
        "no_catchup": True,
        "pipeline_version_reference": {"pipeline_id": made.pipeline_id, "pipeline_version_id": made.version_id},
        "runtime_config": {"parameters": {"config": "cats_vs_dogs"}},
        "service_account": "trainer",
        "trigger": {"cron_schedule": {"cron": "0 30 21 * * *"}},
    }


def test_scheduling_twice_changes_nothing(stub, connection, package):
    first = scheduled(connection, package)
    before = stub.writes()
    assert scheduled(connection, package) == replace(first, action="unchanged")
    assert stub.writes() == before


def test_any_difference_replaces_the_schedule(stub, connection, package, package_file, tmp_path):
    ids = [scheduled(connection, package).id]
    other_image = edited(package_file, tmp_path, "warmstart:1.0", "warmstart:1.1")
    changes: list[dict[str, Any]] = [
        {"package": package, "cron": "0 4 * * *"},
        {"package": package, "cron": "30 9 * * *", "zone": "Asia/Kolkata"},
        {"package": read_package(package_file, {"config": "species"})},
        {"package": read_package(package_file, {"config": "species"}), "service_account": "trainer"},
        {"package": read_package(other_image, {"config": "species"}), "service_account": "trainer"},
    ]
    for change in changes:
        made = scheduled(connection, **change)
        assert made.action == "replaced"
        assert list(stub.state.recurring_runs) == [made.id]
        ids.append(made.id)
    assert len(set(ids)) == len(changes) + 1

    # By hand, in Kubeflow's pages.
    by_hand: list[dict[str, Any]] = [
        {"mode": "DISABLE", "status": "DISABLED"},
        {"no_catchup": False},
        {"max_concurrency": "3"},
        {"description": "mine"},
        {"experiment_id": "another"},
    ]
    for change in by_hand:
        next(iter(stub.state.recurring_runs.values())).update(change)
        assert scheduled(connection, **changes[-1]).action == "replaced"
    assert scheduled(connection, **changes[-1]).action == "unchanged"


def test_the_new_schedule_is_made_before_the_old_one_goes(stub, connection, package):
    scheduled(connection, package)
    stub.requests.clear()
    scheduled(connection, package, "0 4 * * *")
    assert [method for method, path in stub.writes() if path.startswith(RECURRING)] == ["POST", "DELETE"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", f"{RECURRING}$"), ("DELETE", f"{RECURRING}/"), ("GET", "/versions$")]
)
@pytest.mark.parametrize("how", [{"status": 400}, {"status": 500}, {"drop": True}])
def test_a_failure_leaves_the_old_schedule_in_place(stub, connection, package, method, path, how):
    old = scheduled(connection, package).id
    stub.fail(method, path, **how)
    with pytest.raises(BadInput) as error:
        scheduled(connection, package, "0 4 * * *")
    sentence(error)
    assert list(stub.state.recurring_runs) == [old]
    assert stub.state.recurring_runs[old]["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"


@pytest.mark.parametrize("how", [{"after": True}, {"drop": True, "after": True}])
def test_a_first_schedule_whose_answer_is_lost_is_taken_away(stub, connection, package, how):
    stub.fail("POST", f"{RECURRING}$", **how)
    with pytest.raises(BadInput):
        scheduled(connection, package)
    assert stub.state.counts() == NOTHING


@pytest.mark.parametrize("how", [{"drop": True}, {"status": 504}, {"status": 404}])
def test_an_old_schedule_that_went_although_the_answer_was_lost_is_gone(stub, connection, package, how):
    scheduled(connection, package)
    stub.fail("DELETE", f"{RECURRING}/", after=True, **how)
    made = scheduled(connection, package, "0 4 * * *")
    assert made.action == "replaced"
    assert list(stub.state.recurring_runs) == [made.id]


def test_several_of_one_name_become_one(stub, connection, package):
    first = scheduled(connection, package)
    stub.add_recurring_run({**stub.state.recurring_runs[first.id], "recurring_run_id": "second"})
    stub.state.recurring_runs = {one["recurring_run_id"]: one for one in stub.state.recurring_runs.values()}
    assert len(stub.state.recurring_runs) == 2
    assert scheduled(connection, package).action == "replaced"
    assert len(stub.state.recurring_runs) == 1


def test_a_schedule_is_found_on_any_page_of_the_list(stub, connection, package, monkeypatch):
    monkeypatch.setattr(client, "_PAGE", 2)
    for number in range(5):
        stub.add_recurring_run({"display_name": f"other-{number}", "mode": "ENABLE"})
    scheduled(connection, package)
    assert scheduled(connection, package).action == "unchanged"


def test_a_schedule_name_taken_by_another_pipeline_is_refused(stub, connection, package):
    other = {"pipeline_id": "other", "pipeline_version_id": "v"}
    stub.add_recurring_run({"display_name": NIGHTLY, "mode": "ENABLE", "pipeline_version_reference": other})
    with pytest.raises(BadInput, match=f"the name '{NIGHTLY}' is taken by a schedule of another pipeline"):
        scheduled(connection, package)
    assert stub.writes() == []
    submitted(connection, package)
    stub.requests.clear()
    with pytest.raises(BadInput, match="taken by a schedule of another pipeline"):
        scheduled(connection, package)
    assert stub.writes() == []


def test_a_schedule_whose_run_is_going_on_is_neither_replaced_nor_deleted(stub, connection, package):
    made = scheduled(connection, package)
    experiment_id = next(iter(stub.state.experiments))
    run = stub.add_run({"experiment_id": experiment_id, "recurring_run_id": made.id, "display_name": "one"})
    for act in (
        lambda: scheduled(connection, package, "0 4 * * *"),
        lambda: client.delete_schedule(connection, NIGHTLY),
    ):
        with pytest.raises(BadInput, match="a run of the schedule 'nightly' is going on") as error:
            act()
        assert run["run_id"] in sentence(error)
    assert list(stub.state.recurring_runs) == [made.id]
    assert scheduled(connection, package).action == "unchanged"

    run["state"] = "SUCCEEDED"
    client.delete_schedule(connection, NIGHTLY)
    assert stub.state.recurring_runs == {}


def test_an_invalid_timetable_contacts_nobody(stub):
    with pytest.raises(BadInput):
        timetable("0 3 * *", "UTC")
    assert stub.requests == []


def test_schedules_are_listed_and_deleted(stub, connection, package):
    scheduled(connection, package, "0 3 * * *", "Asia/Kolkata")
    stub.add_recurring_run({"display_name": "by hand", "mode": "ENABLE"})
    listed = client.list_schedules(connection)
    assert [(one.name, one.kfp_cron, one.described, one.enabled) for one in listed] == [
        (NIGHTLY, "0 30 21 * * *", "0 3 * * * in Asia/Kolkata", True)
    ]
    assert listed[0].parameters == {"config": "cats_vs_dogs"}
    client.delete_schedule(connection, NIGHTLY)
    assert client.list_schedules(connection) == []
    assert [one["display_name"] for one in stub.state.recurring_runs.values()] == ["by hand"]


def test_deleting_an_absent_schedule_or_one_made_by_hand_is_one_sentence(stub, connection):
    with pytest.raises(BadInput, match=r"there is no schedule 'nightly' at .*; there is none") as error:
        client.delete_schedule(connection, NIGHTLY)
    sentence(error)
    stub.add_recurring_run({"display_name": "by hand", "mode": "ENABLE"})
    with pytest.raises(BadInput, match="there is by hand"):
        client.delete_schedule(connection, NIGHTLY)
    with pytest.raises(BadInput, match="was not made by warmstart"):
        client.delete_schedule(connection, "by hand")
    assert len(stub.state.recurring_runs) == 1


@pytest.mark.parametrize("act", [client.list_schedules, lambda connection: client.delete_schedule(connection, NIGHTLY)])
def test_a_server_that_does_not_list_schedules_is_one_sentence(stub, connection, act):
    stub.fail("GET", f"{RECURRING}$", message="database is locked")
    with pytest.raises(BadInput, match="answered 500 when asked to list the schedules: database is locked") as error:
        act(connection)
    sentence(error)


# ---- the newest client


@pytest.mark.slow
@pytest.mark.release
def test_the_newest_kfp_client_passes_too(tmp_path_factory):
    """These tests, and those of the package and its linter, in an environment with the newest `kfp` and without TFX."""
    environment = tmp_path_factory.mktemp("newest") / "venv"
    requirements = REPOSITORY / "tests" / "requirements-kfp-newest.txt"
    python = environment / "bin" / "python"
    uv = REPOSITORY / ".tools" / "bin" / "uv"
    clean = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(part) for part in command], cwd=REPOSITORY, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done

    if uv.is_file():
        run(uv, "venv", "--quiet", "--python", sys.executable, environment)
        run(uv, "pip", "install", "--quiet", "--python", python, "-r", requirements)
    else:
        run(sys.executable, "-m", "venv", environment)
        run(python, "-m", "pip", "install", "--quiet", "-r", requirements)

    versions = run(
        python, "-c", "import kfp, kfp_server_api as api; print(kfp.__version__, api.__version__)"
    ).stdout.split()
    assert all(version.startswith("2.") and version not in ("2.5.0", "2.0.5") for version in versions)
    for tests in TESTS_OF_KFP:
        tested = run(python, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-m", "not release", tests)
        summary = tested.stdout.strip().splitlines()[-1]
        assert " passed" in summary, tests
        assert "skipped" not in summary, tests
    shutil.rmtree(environment)
