"""The way to a server of Kubeflow Pipelines, against a stub of its API."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from deploy.kubeflow import KUBEFLOWS_METADATA_SERVICE, METADATA_SERVICE
from deploy.kubeflow import connection as connections
from deploy.kubeflow.compiler import Cluster
from deploy.kubeflow.connection import Endpoint, connect, find_endpoint
from deploy.kubeflow.server_versions import refuse_unfit
from pipeline.config.release import RuntimeConfig
from schemas.errors import BadInput
from tests.kfp_api_stub import KfpApiStub
from tests.kubeflow_server import connected, sentence, submitted

REPOSITORY = Path(__file__).parents[3]


# ---- where it is


def test_flags_go_before_the_environment(monkeypatch):
    monkeypatch.setenv("KFP_ENDPOINT", "http://from.environment:8080")
    monkeypatch.setenv("KFP_NAMESPACE", "from-environment")
    monkeypatch.setenv("KFP_TOKEN", "secret-1")
    from_environment = Endpoint("http://from.environment:8080", "from-environment", "secret-1")
    assert find_endpoint(None, None, None) == from_environment
    from_flags = Endpoint("https://from.flags", "from-flags", "secret-2")
    assert find_endpoint("https://from.flags", "from-flags", "secret-2") == from_flags


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
    assert find_endpoint(given, None, None).host == address


@pytest.mark.parametrize("given", ["ftp://a", "http://", "http://a:port", "http://[", "https:///x", "a b"])
def test_what_is_no_address_is_one_sentence(given):
    with pytest.raises(BadInput, match="is not an address") as error:
        find_endpoint(given, None, None)
    sentence(error)


def test_a_token_without_an_address_and_a_bad_namespace_are_refused():
    with pytest.raises(BadInput, match="without an endpoint"):
        find_endpoint(None, None, "secret")
    with pytest.raises(BadInput, match="is not a valid Kubernetes namespace"):
        find_endpoint("http://localhost:1", "Team A", None)


def test_a_token_and_a_password_are_not_shown():
    endpoint = find_endpoint("https://ann:hidden@kubeflow.example/pipeline", None, "secret")
    assert "secret" not in repr(endpoint)
    assert endpoint.shown() == "https://kubeflow.example/pipeline"


def test_nothing_is_read_or_imported_before_a_cluster_is_contacted():
    slow = ("kfp", "kfp_server_api", "kubernetes", "requests", "urllib3")
    modules = "import sys, deploy.kubeflow.runs, deploy.kubeflow.schedules"
    code = f"{modules}; print([one for one in {slow} if one in sys.modules])"
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


@pytest.mark.parametrize(
    ("version", "metadata", "told"),
    [
        ("2.18.0", KUBEFLOWS_METADATA_SERVICE, ""),
        ("3.0.0", KUBEFLOWS_METADATA_SERVICE, "is version 3.0.0, which has no ML Metadata"),
        ("v3.1.2-rc.1", "grpc://metadata-grpc-service:8080", "has no ML Metadata"),
        ("master", KUBEFLOWS_METADATA_SERVICE, "does not tell its version"),
        ("", KUBEFLOWS_METADATA_SERVICE, "does not tell its version"),
        ("3.0.0", METADATA_SERVICE, ""),
        ("", METADATA_SERVICE, ""),
        ("3.0.0", "mysql://warmstart@metadata-grpc-service/metadb", ""),
    ],
)
def test_kubeflows_own_metadata_is_refused_where_there_is_none_or_it_is_not_known(version, metadata, told):
    with KfpApiStub(version=version) as stub:
        connection = connected(stub)
        if not told:
            refuse_unfit(connection, Cluster("image:1", metadata=metadata), RuntimeConfig())
            return
        with pytest.raises(BadInput, match=told) as error:
            refuse_unfit(connection, Cluster("image:1", metadata=metadata), RuntimeConfig())
    assert f"--metadata {METADATA_SERVICE}" in sentence(error)


@pytest.mark.parametrize(
    ("setting", "since"),
    [
        ("--run-as", "2.16"),
        ("--sub-path", "2.16"),
        ("runtime.deadline_hours", "2.17"),
        ("runtime.workflow_days", "2.17"),
    ],
)
def test_what_an_older_server_would_ignore_is_refused(setting, since):
    cluster = Cluster("image:1", **{"--run-as": {"run_as": "1:1"}, "--sub-path": {"sub_path": "a"}}.get(setting, {}))
    runtime = RuntimeConfig(**({setting.removeprefix("runtime."): 1} if "runtime" in setting else {}))
    minor = int(since.partition(".")[2])
    with KfpApiStub(version=f"2.{minor - 1}.9") as stub:
        with pytest.raises(BadInput, match=f"which ignores {setting}; expected version {since} or newer") as error:
            refuse_unfit(connected(stub), cluster, runtime)
        sentence(error)
    for version in (f"2.{minor}.0", "3.0.0", ""):
        with KfpApiStub(version=version) as stub:
            refuse_unfit(connected(stub), cluster, runtime)


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
        connect(find_endpoint(f"http://127.0.0.1:{port}", None, None))
    assert f"127.0.0.1:{port}" in sentence(error)


def test_a_server_without_tls_is_not_taken_for_one_with(stub):
    with pytest.raises(BadInput, match="TLS certificate is not trusted") as error:
        connect(find_endpoint(stub.address.replace("http:", "https:"), None, None))
    sentence(error)


def test_the_address_of_kubeflows_pages_may_be_another(connection, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example/pipeline/")
    assert connection.run_url("r") == "https://kubeflow.example/pipeline/#/runs/details/r"
    assert connection.ui_hint() == ""


def test_an_unknown_host_is_one_sentence():
    with pytest.raises(BadInput, match=r"cannot be reached \(no such host\)"):
        connect(find_endpoint("http://no-such-host.invalid", None, None))


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    assert connections._CONNECT_SECONDS + connections._FIRST_ANSWER_SECONDS < 15
    monkeypatch.setattr(connections, "_FIRST_ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(BadInput, match=r"cannot be reached \(connected, but no answer in time\)"):
            connect(find_endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}", None, None))
    assert time.monotonic() - began < 5


def test_a_host_that_takes_no_connection_is_given_up(monkeypatch):
    monkeypatch.setattr(connections, "_CONNECT_SECONDS", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        began = time.monotonic()
        with pytest.raises(BadInput, match="cannot be reached"):
            connect(find_endpoint(f"http://127.0.0.1:{full.getsockname()[1]}", None, None))
        for filler in fillers:
            filler.close()
    assert time.monotonic() - began < 5


def test_a_refused_token_is_one_sentence():
    with KfpApiStub(token="right") as stub:
        with pytest.raises(BadInput, match="refused the token") as error:
            connected(stub, token="wrong")
        assert "wrong" not in sentence(error)
        with pytest.raises(BadInput, match="requires a token; give one"):
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
    refusal = pytest.raises(BadInput, match=r"is not Kubeflow Pipelines 2\.x: it answered 404")
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
        connection = connect(find_endpoint(None, None, None))
        run = submitted(connection, package)
        assert run.run_url == f"http://localhost:8080/#/runs/details/{run.run_id}"
        assert connection.ui_hint() == "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
        assert {one.path.startswith(prefix) for one in stub.requests} == {True}
        with pytest.raises(BadInput, match="no Kubeflow Pipelines in the namespace 'elsewhere'"):
            connect(find_endpoint(None, "elsewhere", None))


def test_without_an_endpoint_and_a_kubeconfig_there_is_one_sentence(monkeypatch, tmp_path, capfd):
    use_kubeconfig(monkeypatch, tmp_path / "absent")
    with pytest.raises(BadInput, match="no endpoint was given and no kubeconfig was found"):
        connect(find_endpoint(None, None, None))
    assert capfd.readouterr().out == ""
