"""Addresses of ML Metadata: every form, every mistake, and passwords, which no address may hold."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.metadata_address import PASSWORD_VARIABLE, check_address, connect, connection_config
from deploy.root import Root
from schemas.errors import BadInput

REPOSITORY = Path(__file__).parents[2]
SECRET = "hunter2"


def sentence(error: pytest.ExceptionInfo[BadInput]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


@pytest.fixture(autouse=True)
def _no_password(monkeypatch):
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)


# ---- forms


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("grpc://metadata-grpc-service.kubeflow:8080", "metadata-grpc-service.kubeflow", 8080),
        ("grpc://127.0.0.1:1/", "127.0.0.1", 1),
        ("GRPC://localhost:65535", "localhost", 65535),
        ("grpc://[fd00::1]:8080", "[fd00::1]", 8080),  # the client writes host:port
    ],
)
def test_the_service_of_kubeflow_is_a_host_and_a_port(address, host, port):
    config = connection_config(address)
    assert (config.host, config.port) == (host, port)
    assert type(config).__name__ == "MetadataStoreClientConfig"


@pytest.mark.parametrize(
    ("address", "host", "port", "user", "database"),
    [
        ("mysql://warmstart@db.example/metadb", "db.example", 3306, "warmstart", "metadb"),
        ("mysql://warmstart@127.0.0.1:3307/metadb", "127.0.0.1", 3307, "warmstart", "metadb"),
        ("mysql://a%40b%3Ac%2Fd@h/meta%2Fdb%3F", "h", 3306, "a@b:c/d", "meta/db?"),
        ("mysql://a@b@h/db", "h", 3306, "a@b", "db"),
        ("mysql://k%C3%A4the@[::1]:3306/db", "::1", 3306, "käthe", "db"),
    ],
)
def test_a_mysql_server_is_a_user_a_host_and_a_database(address, host, port, user, database):
    config = connection_config(address).mysql
    assert (config.host, config.port, config.user, config.database) == (host, port, user, database)
    assert config.password == ""


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("sqlite:///warmstart/metadata.sqlite", "/warmstart/metadata.sqlite"),
        ("sqlite:////warmstart/metadata.sqlite", "//warmstart/metadata.sqlite"),
        ("sqlite:///my photos/%23 1%3F.sqlite", "/my photos/# 1?.sqlite"),
        ("sqlite:///a:b@c/d", "/a:b@c/d"),
    ],
)
def test_a_file_is_a_whole_path(address, file):
    assert connection_config(address).sqlite.filename_uri == file


@pytest.mark.parametrize("name", ["runs", "100%41", "#1?", "my photos"])
def test_the_file_of_any_root_has_an_address(tmp_path, name):
    root = Root(tmp_path / name)
    assert connection_config(root.metadata_address).sqlite.filename_uri == str(root.metadata)


# ---- mistakes


@pytest.mark.parametrize(
    "address",
    [
        "",
        "metadata.sqlite",
        "localhost:8080",
        "http://localhost:8080",
        "postgresql://u@h/db",
        "grpc://",
        "grpc://localhost",
        "grpc://:8080",
        "grpc://localhost:0",
        "grpc://localhost:65536",
        "grpc://localhost:port",
        "grpc://localhost:8080/service",
        "grpc://ann@localhost:8080",
        "grpc://local host:8080",
        "grpc://[::1:8080",
        "mysql://h/db",
        "mysql://@h/db",
        "mysql://u@/db",
        "mysql://u@h",
        "mysql://u@h/",
        "mysql://u@h/db/",
        "mysql://u@h/a/b",
        "mysql://u@h:0/db",
        "mysql://u@h:port/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite:///folder/",
        "sqlite://metadata.sqlite",
        "sqlite://host/metadata.sqlite",
        " grpc://localhost:8080",
        "grpc://localhost:8080\n",
        "grpc://local\thost:8080",
        "sqlite:///a\nb",
    ],
)
def test_what_is_no_address_is_one_sentence_with_the_forms(address):
    with pytest.raises(BadInput, match="metadata address") as error:
        check_address(address)
    text = sentence(error)
    for form in ("grpc://HOST:PORT", "mysql://USER@HOST[:PORT]/DATABASE", "sqlite:///FILE"):
        assert form in text
    with pytest.raises(BadInput):
        connection_config(address)


@pytest.mark.parametrize("end", ["?ssl=1", "#1", "?", "?a#b"])
@pytest.mark.parametrize("address", ["mysql://u@h/db", "grpc://h:1", "sqlite:///photos"])
def test_what_would_be_cut_off_an_address_is_refused(address, end):
    with pytest.raises(BadInput, match=r"is followed by \? or #") as error:
        check_address(address + end)
    assert address in sentence(error)


# ---- passwords


@pytest.mark.parametrize(
    "address",
    [
        f"mysql://warmstart:{SECRET}@db.example/metadb",
        f"mysql://warmstart:{SECRET}@db.example:port/metadb",
        f"mysql://warmstart:{SECRET}@[db/metadb",
        f"mysql://warmstart:{SECRET}@",
        f"mysql://:{SECRET}@db.example/metadb",
        # Signs that end a part of an address.
        f"mysql://warmstart:a/{SECRET}@db.example/metadb",
        f"mysql://warmstart:a#{SECRET}@db.example/metadb",
        f"mysql://warmstart:a?{SECRET}@db.example/metadb",
        f"mysql://warmstart:a@{SECRET}@db.example/metadb",
        f"mysql://warmstart:1/{SECRET}:x@db.example/metadb",
        f"mysql://warmstart:a\n{SECRET}@db.example/metadb",
        f"mysql://warmstart://{SECRET}@db.example/metadb",
        f" mysql://warmstart:{SECRET}@db.example/metadb",
        f"mysql+pymysql://warmstart:{SECRET}@db.example/metadb",
        f"warmstart:{SECRET}@db.example/metadb",
        f"grpc://warmstart:{SECRET}@localhost:8080",
        f"sqlite://warmstart:{SECRET}@/metadata.sqlite",
        f"postgresql://warmstart:{SECRET}@h/db",
        "mysql://warmstart:@db.example/metadb",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(address):
    with pytest.raises(BadInput, match="contains a password") as error:
        check_address(address)
    text = sentence(error)
    assert SECRET not in text
    assert PASSWORD_VARIABLE in text
    with pytest.raises(BadInput, match="contains a password"):
        connection_config(address)


def test_a_password_behind_an_address_is_not_repeated_either():
    for sign in "?#":
        with pytest.raises(BadInput) as error:
            check_address(f"mysql://warmstart@db.example/metadb{sign}password={SECRET}")
        assert SECRET not in sentence(error)
        assert PASSWORD_VARIABLE in sentence(error)


@pytest.mark.parametrize("password", [SECRET, 'a pass\'word; with all "sorts" of #signs/:@?%20', "pässwörd", ""])
def test_the_password_comes_from_the_environment_as_it_is(monkeypatch, password):
    monkeypatch.setenv(PASSWORD_VARIABLE, password)
    assert connection_config("mysql://warmstart@db.example/metadb").mysql.password == password


def test_only_mysql_is_given_the_password(monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, SECRET)
    for address in ("grpc://localhost:8080", "sqlite:///metadata.sqlite"):
        assert SECRET not in str(connection_config(address))


# ---- connecting


def test_a_file_is_made_and_found_again(tmp_path):
    from ml_metadata.proto import metadata_store_pb2

    address = f"sqlite://{tmp_path}/%231 store.sqlite"
    connect(address).put_context_type(metadata_store_pb2.ContextType(name="photos"))
    assert (tmp_path / "#1 store.sqlite").is_file()
    assert [kind.name for kind in connect(address).get_context_types()] == ["photos"]


def test_a_store_out_of_reach_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, SECRET)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no database, but a text that is long enough to be looked at" * 10)
    for address in (
        f"grpc://127.0.0.1:{port}",
        f"mysql://warmstart@127.0.0.1:{port}/metadb",
        f"sqlite://{tmp_path}/absent/metadata.sqlite",
        f"sqlite://{tmp_path}/folder",
        f"sqlite://{tmp_path}/text",
    ):
        with pytest.raises(BadInput, match="cannot be reached") as error:
            connect(address)
        assert f"ML Metadata at {address} " in sentence(error)
        assert SECRET not in sentence(error)


def test_nothing_slow_is_imported_to_check_an_address():
    code = "import sys; from deploy.metadata_address import check_address; check_address('grpc://h:1')"
    told = "print([one for one in ('ml_metadata', 'tensorflow', 'tfx', 'grpc') if one in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}; {told}"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"
