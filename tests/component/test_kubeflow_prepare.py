"""Prepare on Kubeflow: a run's parameters become a configuration, and that a plan; a root is tied to one store."""

from __future__ import annotations

import datetime
import io
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ml_metadata.proto import metadata_store_pb2

from deploy import data_folders, local
from deploy.beam_arguments import BEAM_STEPS, LOCAL
from deploy.display import ConsoleDisplay
from deploy.kubeflow import prepare as preparing
from deploy.kubeflow.compiler import Cluster
from deploy.kubeflow.package_request import PackageRequest, make_graph, resolve
from deploy.kubeflow.plan import PIPELINE_FILE, PREPARE, STOPPED, Note, Plan, read_notes, read_plan, write_note
from deploy.kubeflow.prepare import bind, prepare, read_config
from deploy.kubeflow.report_task import report
from deploy.metadata_address import PASSWORD_VARIABLE, connect
from deploy.root import Root
from pipeline.config import Config, load_config
from schemas.errors import BadInput
from schemas.json_records import to_json
from tests.mariadb import mariadb

NAME = "cats_vs_dogs"
PASSWORD = "a-password-of-mysql"


def sentence(error: pytest.ExceptionInfo[BadInput]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# ---- a run's parameters


def test_a_configuration_is_a_name_a_file_or_its_text(tmp_path):
    text = "# mine\nname: mine\ntask: {schema_name: image_folder}\ndata:\n  sources: {image_folder: /warmstart/p}\n"
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert read_config(" cats_vs_dogs\n", "/p", "", "") == load_config(NAME, data=["/p"])
    assert read_config(str(file), "", "", "") == read_config(text, "", "", "") == load_config(str(file))
    one_line = json.dumps(yaml.safe_load(text))
    for written in (one_line, one_line.replace(" ", "")):
        assert read_config(written, "", "", "") == load_config(str(file))


@pytest.mark.parametrize("data", ["cats_vs_dogs=/a;oxford_iiit_pet=/b", "cats_vs_dogs=/a\n oxford_iiit_pet=/b ;; \n"])
def test_several_values_stand_between_semicolons_or_line_breaks(data):
    overrides = "image.size=64;release.guarded_slices=[label, species]\n\n training.seed=7 ; "
    found = read_config("species", data, "", overrides)
    assert found.data.sources == {"cats_vs_dogs": "/a", "oxford_iiit_pet": "/b"}
    assert (found.image.size, found.training.seed) == (64, 7)
    assert found.release.guarded_slices == ["label", "species"]


@pytest.mark.parametrize(
    ("span", "pattern", "found"),
    [
        ("17", "/p/span-{SPAN}", 17),
        (" 017 ", "/p/span-{SPAN}", 17),
        ("2026-11-22", "/p/{YYYY}-{MM}-{DD}", datetime.date(2026, 11, 22)),
        ("", "/p/span-{SPAN}", None),
        ("  ", "/p/span-{SPAN}", None),
    ],
)
def test_a_span_is_a_number_a_day_or_the_latest(span, pattern, found):
    assert read_config(NAME, pattern, span, "").data.span == found


def test_the_span_of_a_run_goes_before_that_of_the_package():
    assert read_config(NAME, "/p/span-{SPAN}", "18", "data.span=17").data.span == 18
    assert read_config(NAME, "/p/span-{SPAN}", "", "data.span=17").data.span == 17


@pytest.mark.parametrize(
    ("config", "data", "span", "overrides", "told"),
    [
        ("cats", "", "", "", "'cats_vs_dogs'"),
        ("/warmstart/absent.yaml", "", "", "", "configuration file /warmstart/absent.yaml does not exist"),
        ("", "", "", "", "unknown configuration ''"),
        (NAME, "", "", "", "no folder given: say"),
        (NAME, "/a;/b", "", "", "already has"),
        (NAME, "/a", "17", "", "there are no spans in /a"),
        (NAME, "/a/{SPAN}", "17; image.size=64", "", "expected a span's number"),
        (NAME, "/a", "", "image.size", "expected key=value"),
        (NAME, "/a", "", "image.size=3", "image.size (=3)"),
        ("name: [", "", "", "", "as given"),
        ("- a\n- b", "", "", "", "configuration as given contains a list"),
        ("name: mine\ntask: {schema_name: image_folder}", "", "", "", "configuration as given: data is missing"),
    ],
)
def test_wrong_parameters_are_one_sentence_without_a_file_that_nobody_knows(config, data, span, overrides, told):
    with pytest.raises(BadInput) as error:
        read_config(config, data, span, overrides)
    assert told in sentence(error)
    assert "given.yaml" not in str(error.value)


def test_what_was_asked_for_at_home_is_what_the_cluster_reads(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ntask: {schema_name: image_folder}\ndata:\n  sources:\n    image_folder: '/warmstart/a;b'\n"
        "evaluation: {further: {image_folder: /warmstart/further}, further_label: label}\n"
    )
    settings = ["image.size=64", "release.guarded_slices=[label, image_size]", "training.gradient_clip_norm=1e-3"]
    asked = [
        PackageRequest(NAME, Cluster("image:1"), overrides=settings),
        PackageRequest("species", Cluster("image:1", mount="/data"), data=["oxford_iiit_pet=/data/{YYYY}/{MM}/{DD}",
               "cats_vs_dogs=/data/{YYYY}{MM}{DD}"], span="2026-11-22"),
        PackageRequest("image_folder", Cluster("image:1"), data=["gs://bucket/span-{SPAN:3}"], span="7"),
        PackageRequest(str(file), Cluster("image:1"), overrides=settings),
    ]  # fmt: skip
    for wanted in asked:
        found = resolve(wanted)
        given = found.defaults
        assert read_config(given.config, given.data, given.span, given.overrides) == found.config


# ---- the plan


@pytest.fixture(scope="module")
def photos(tmp_path_factory, drawn_photos) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for photo in drawn_photos:
        (folder / photo.label).mkdir(exist_ok=True)
        (folder / photo.label / photo.name).write_bytes(photo.photo_bytes)
    return folder


@pytest.fixture(scope="module")
def config(photos) -> Config:
    return load_config(NAME, data=[str(photos)])


@pytest.fixture(scope="module")
def nodes() -> list[str]:
    """Steps of the package that `cats_vs_dogs` is compiled to."""
    return list(make_graph(resolve(PackageRequest(NAME, Cluster("image:1")))))


class Place:
    """A root, and the address of a SQLite store beside it."""

    def __init__(self, folder: Path, root: str = "root", store: str = "store"):
        self.root, self.address = Root(folder / root), f"sqlite://{folder / store}.sqlite"

    def store(self) -> Any:
        return connect(self.address)

    def content(self) -> dict[str, tuple[bytes, int]]:
        files = [file for file in self.root.folder.rglob("*") if file.is_file()]
        return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}

    def bind(self, name: str = NAME) -> None:
        self.root.prepare(name)
        bind(self.root, name, self.store(), self.address)


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def read_pipeline(place: Place, run_id: str) -> Any:
    from tfx.proto.orchestration import pipeline_pb2

    return pipeline_pb2.Pipeline.FromString((place.root.reports / run_id / PIPELINE_FILE).read_bytes())


def test_the_plan_says_what_all_tasks_will_do(place, config, nodes):
    before = time.time()
    plan = prepare(config, place.root, "run-1", place.address, nodes)
    assert plan == read_plan(place.root.reports / "run-1")
    assert list(plan.nodes) == nodes
    assert plan.nodes["Pusher"] == ["ModelSelector", "ReleaseGate", "ServableCheck"]
    assert plan == Plan(NAME, plan.nodes, plan.began, None, str(place.root.artifacts), beam_args=plan.beam_args)
    assert before <= plan.began <= time.time()
    pipeline = read_pipeline(place, "run-1")
    assert [node.pipeline_node.node_info.id for node in pipeline.nodes] == nodes
    assert pipeline.runtime_spec.pipeline_run_id.field_value.string_value == "run-1"
    assert pipeline.runtime_spec.pipeline_root.field_value.string_value == str(place.root.artifacts)
    written = (place.root.reports / "run-1" / "config.yaml").read_text()
    assert Config.model_validate(yaml.safe_load(written)) == config
    assert sorted(file.name for file in (place.root.reports / "run-1").iterdir()) == [
        "config.yaml",
        "pipeline.pb",
        "plan.json",
    ]


def test_arguments_for_beam_are_in_the_plan_and_in_no_cache_key(place, photos, nodes):
    engine = ["--runner=FnApiRunner", "--direct_num_workers=3"]
    overrides = [f"runtime.beam_pipeline_args={json.dumps(engine)}", "runtime.beam_steps=[Transform]"]
    given = load_config(NAME, overrides, [str(photos)])
    plan = prepare(given, place.root, "run-1", place.address, nodes)
    assert plan.beam_args["Transform"] == [*engine, "--sdk_container_image=warmstart"]
    assert plan.beam_args["StatisticsGen"] == list(LOCAL)
    assert set(plan.beam_args) == set(BEAM_STEPS) & set(nodes)
    # TFX makes its cache keys of what is in the compiled pipeline.
    compiled = (place.root.reports / "run-1" / PIPELINE_FILE).read_bytes()
    assert b"direct_num_workers" not in compiled
    assert b"FnApiRunner" not in compiled
    wrong = load_config(NAME, ["runtime.beam_pipeline_args=[--runner=FlinkRuner]"], [str(photos)])
    with pytest.raises(BadInput, match="did you mean 'FlinkRunner'"):
        prepare(wrong, place.root, "run-2", place.address, nodes)


def test_made_again_for_the_same_run_nothing_changes(place, config, nodes):
    first = prepare(config, place.root, "run-1", place.address, nodes)
    content, contexts = place.content(), place.store().get_contexts()
    # A retry meets what the first try left, whatever has become of everything else.
    later = load_config(NAME, ["image.size=64"], ["/absent"])
    assert prepare(later, place.root, "run-1", "grpc://127.0.0.1:1", ["Other"]) == first
    assert place.content() == content
    assert place.store().get_contexts() == contexts


def test_the_next_run_has_a_plan_of_its_own(place, config, nodes):
    (place.root.folder / "serving" / "17").mkdir(parents=True)
    first = prepare(config, place.root, "run-1", place.address, nodes)
    (place.root.folder / "serving" / "18").mkdir()
    second = prepare(config, place.root, "run-2", place.address, nodes, "gs://bucket/tfx", "a new camera")
    assert (first.production_before, second.production_before) == ("17", "18")
    assert (first.artifacts, second.artifacts) == (str(place.root.artifacts), "gs://bucket/tfx")
    texts = [read_pipeline(place, run_id).SerializeToString() for run_id in ("run-1", "run-2")]
    assert b"gs://bucket/tfx" in texts[1]
    assert [b"a new camera" in text for text in texts] == [False, True]
    assert read_plan(place.root.reports / "run-1") == first


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["training.tuner.trials=2"], "it adds Tuner"),
        (["selection.ensemble=true", "training.tuner.trials=2"], "it adds Ensemble, Tuner"),
    ],
)
def test_a_configuration_with_other_steps_than_the_package_is_refused(place, photos, nodes, overrides, told):
    other = load_config(NAME, overrides, [str(photos)])
    with pytest.raises(BadInput, match="differ from those that the package was compiled with") as error:
        prepare(other, place.root, "run-1", place.address, nodes)
    assert f"({told}); compile the package with this configuration" in sentence(error)
    assert read_plan(place.root.reports / "run-1") is None


def test_steps_that_are_missing_are_named_too(place, config, nodes):
    expected = [*nodes[1:], "Tuner", "Ensemble"]
    with pytest.raises(BadInput) as error:
        prepare(config, place.root, "run-1", place.address, expected)
    assert f"(it adds {nodes[0]}; it lacks Ensemble, Tuner)" in sentence(error)
    # Written as the flag has it; the same steps in another order are the same steps.
    reordered = ",".join(reversed(nodes)).split(",")
    assert list(prepare(config, place.root, "run-1", place.address, reordered).nodes) == nodes


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("photos", "does not exist"),
        ("one class", "all photos in .* are of one class"),
        ("root", "cannot be written"),
        ("other pipeline", "'species'"),
        ("store", "cannot be reached"),
        ("store of kubeflow 2", "Kubeflow Pipelines 3.0 and newer have no such service: compile the package again"),
    ],
)
def test_what_is_wrong_is_found_before_there_is_a_plan(place, photos, nodes, tmp_path, how, told):
    given, address = load_config(NAME, data=[str(photos)]), place.address
    if how == "photos":
        given = load_config(NAME, data=[str(tmp_path / "absent")])
    elif how == "one class":
        shutil.copytree(photos / "cat", tmp_path / "cats" / "cat")
        given = load_config(NAME, data=[str(tmp_path / "cats")])
    elif how == "root":
        place.root.folder.write_text("a file")
    elif how == "other pipeline":
        place.root.prepare("species")
    elif how == "store of kubeflow 2":
        address = "grpc://metadata-grpc-service.invalid:1"
    elif how == "store":
        address = f"sqlite://{tmp_path}/absent/metadata.sqlite"
    with pytest.raises(BadInput, match=told) as error:
        prepare(given, place.root, "run-1", address, nodes)
    sentence(error)
    assert read_plan(place.root.reports / "run-1") is None


def test_once_it_is_mended_the_same_run_goes_on(place, photos, nodes, tmp_path):
    given = load_config(NAME, data=[str(tmp_path / "late")])
    with pytest.raises(BadInput, match="does not exist"):
        prepare(given, place.root, "run-1", place.address, nodes)
    shutil.copytree(photos, tmp_path / "late")
    assert list(prepare(given, place.root, "run-1", place.address, nodes).nodes) == nodes


def test_a_run_waits_while_another_gives_the_root_its_name(place, config, nodes, monkeypatch):
    monkeypatch.setattr(preparing, "_WAIT_FOR_OTHERS_SECONDS", 0.1)
    place.root.prepare(NAME)
    with place.root.node_lock(PREPARE, 0), pytest.raises(BadInput, match="another process has been running Prepare"):
        prepare(config, place.root, "run-1", place.address, nodes)
    assert not place.root.store_mark().exists()
    assert list(prepare(config, place.root, "run-1", place.address, nodes).nodes) == nodes


def test_no_password_and_no_address_of_the_store_is_in_the_plan(place, config, nodes, monkeypatch):
    from tfx.dsl.compiler import compiler

    from deploy.assembly import assemble

    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    prepare(config, place.root, "run-1", place.address, nodes)
    secrets = [PASSWORD.encode(), place.address.encode(), place.address.removeprefix("sqlite://").encode()]
    for file, (content, _) in place.content().items():
        assert not [secret for secret in secrets if secret in content], file

    # TFX would write it down, if it knew it.
    from deploy.metadata_address import connection_config

    sources = data_folders.check_sources(config)
    known = connection_config("mysql://warmstart@db.example/metadb")
    leaky = compiler.Compiler().compile(assemble(config, place.root, sources, place.store(), known))
    assert PASSWORD.encode() in leaky.SerializeToString()


# ---- one root, one store


def test_a_root_and_a_store_that_are_tied_stay_so(place):
    place.bind()
    content, contexts = place.content(), place.store().get_contexts()
    mark = json.loads(place.root.store_mark().read_text())
    [context] = contexts
    assert (context.name, context.custom_properties["root"].string_value) == (NAME, mark["root"])
    (place.root.artifacts / "Make").mkdir()
    place.bind()
    assert place.content() == content
    assert place.store().get_contexts() == contexts


def test_several_pipelines_share_a_store_each_with_its_root(tmp_path):
    roots = {name: Place(tmp_path, root=name) for name in ("cats", "cats_too", "dogs")}
    for _ in range(2):
        for name, place in roots.items():
            place.bind(name)
            (place.root.artifacts / "Make").mkdir(exist_ok=True)
    names = {context.name: context.custom_properties["root"].string_value for context in place.store().get_contexts()}
    assert set(names) == set(roots)
    assert len(set(names.values())) == 3


def refused(place: Place, name: str = NAME) -> str:
    content, contexts = place.content(), place.store().get_contexts()
    place.root.prepare(name)
    with pytest.raises(BadInput) as error:
        bind(place.root, name, place.store(), place.address)
    assert place.store().get_contexts() == contexts
    marks = (".pipeline", ".warmstart")
    assert {file: kept for file, kept in place.content().items() if not file.endswith(marks)} == {
        file: kept for file, kept in content.items() if not file.endswith(marks)
    }
    return sentence(error)


def test_a_second_root_of_the_same_name_is_refused(tmp_path):
    Place(tmp_path).bind()
    text = refused(Place(tmp_path, root="another"))
    assert f"has a pipeline {NAME!r} with another root than {tmp_path / 'another'}" in text
    assert "another name" in text


def test_a_root_whose_mark_was_copied_or_lost_is_refused(tmp_path):
    place, other = Place(tmp_path), Place(tmp_path, root="other", store="other")
    place.bind()
    other.bind()
    shutil.copyfile(other.root.store_mark(), place.root.store_mark())
    assert "with another root" in refused(place)
    place.root.store_mark().unlink()
    assert "with another root" in refused(place)


def test_a_root_of_another_store_is_refused(tmp_path):
    place = Place(tmp_path)
    place.bind()
    (place.root.artifacts / "Make").mkdir()
    fresh = Place(tmp_path, store="fresh")
    text = refused(fresh)
    assert f"belongs to another metadata store than {fresh.address}" in text


def test_a_root_that_ran_on_a_laptop_is_refused(tmp_path):
    ran, left = Place(tmp_path, root="ran"), Place(tmp_path, root="left")
    for place in (ran, left):
        place.root.prepare(NAME)
    ran.root.metadata.write_bytes(b"")
    (left.root.artifacts / "Make").mkdir()
    for place in (ran, left):
        assert f"has results whose metadata is not at {place.address}" in refused(place)
        assert not place.root.store_mark().exists()


def test_a_pipeline_that_somebody_else_ran_under_this_name_is_refused(place):
    store = place.store()
    kind = store.put_context_type(metadata_store_pb2.ContextType(name="pipeline"))
    store.put_contexts([metadata_store_pb2.Context(type_id=kind, name=NAME)])
    assert f"has a pipeline {NAME!r} that warmstart did not run" in refused(place)
    place.root.folder.joinpath(".pipeline").unlink()
    place.bind("another_name")


def test_a_store_moves_out_of_kubeflows_database_by_dump_and_restore(tmp_path, monkeypatch):
    """The commands of deploy/README.md, with MariaDB in place of both servers."""
    dump = shutil.which("mariadb-dump") or shutil.which("mysqldump")
    client = shutil.which("mariadb") or shutil.which("mysql")
    if dump is None or client is None:
        pytest.skip("no client of MariaDB: apt-get install mariadb-client")
    (tmp_path / "server").mkdir()
    with mariadb(tmp_path / "server") as server:
        monkeypatch.setenv(PASSWORD_VARIABLE, server.password)
        place = Place(tmp_path)
        place.address = server.address
        place.bind()
        (place.root.artifacts / "Make").mkdir()
        before = place.store().get_contexts()
        login = ["--no-defaults", f"--socket={server.socket}", "--user=root"]
        command = [dump, *login, "--single-transaction", "metadb"]
        dumped = subprocess.run(command, check=True, capture_output=True).stdout
        create = b"CREATE DATABASE warmstart; GRANT ALL ON warmstart.* TO 'warmstart'@'127.0.0.1';"
        subprocess.run([client, *login], input=create, check=True)
        subprocess.run([client, *login, "warmstart"], input=dumped, check=True)
        subprocess.run([client, *login], input=b"DROP DATABASE metadb;", check=True)
        place.address = server.address.removesuffix("metadb") + "warmstart"
        assert place.store().get_contexts() == before
        place.bind()  # the root belongs to it still
        put = place.store().put_context_type(metadata_store_pb2.ContextType(name="another"))
        assert put > max(context.type_id for context in before)


def test_a_root_on_kubeflow_is_refused_by_a_local_run(place, config):
    place.root.refuse_local_run()
    place.bind()
    display = ConsoleDisplay(io.StringIO())
    for act in (place.root.refuse_local_run, lambda: local.run(config, place.root, display)):
        with pytest.raises(BadInput, match="belongs to a pipeline on Kubeflow") as error:
            act()
        assert str(place.root.folder) in sentence(error)
    assert list(place.root.reports.iterdir()) == []


class Unlucky:
    """A store that goes away at the last moment."""

    def __init__(self, store: Any, call: str):
        self._store, self._call = store, call

    def __getattr__(self, name: str) -> Any:
        if name == self._call:
            raise ConnectionError("the store went away")
        return getattr(self._store, name)


@pytest.mark.parametrize("call", ["put_context_type", "put_contexts"])
def test_a_crash_between_the_mark_and_the_store_is_made_good_by_the_next_try(place, call):
    place.root.prepare(NAME)
    with pytest.raises(ConnectionError):
        bind(place.root, NAME, Unlucky(place.store(), call), place.address)
    mark = json.loads(place.root.store_mark().read_text())["root"]
    assert place.store().get_contexts() == []
    place.bind()
    [context] = place.store().get_contexts()
    assert context.custom_properties["root"].string_value == mark
    assert json.loads(place.root.store_mark().read_text())["root"] == mark


def test_a_mark_that_cannot_be_finished_is_none(place, monkeypatch):
    place.root.prepare(NAME)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        bind(place.root, NAME, place.store(), place.address)
    monkeypatch.undo()
    assert not place.root.store_mark().exists()
    place.bind()


# ---- what is told of a run without a plan, or without a readable configuration


def told(place: Place, run_id: str) -> tuple[dict[str, Any], str]:
    """The summary that Report writes, and its page."""
    folder = place.root.reports / run_id
    summary = report(place.root, run_id, place.address, read_plan(folder), read_notes(folder))
    told = to_json(summary)
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8")) == told
    return told, (folder / "index.html").read_text(encoding="utf-8")


def test_a_refusal_by_prepare_becomes_summary_and_page(place):
    place.root.prepare(NAME)
    folder = place.root.reports / "run-1"
    folder.mkdir()
    name = b"/photos/K\xf6nig".decode("utf-8", "surrogateescape")
    write_note(folder, PREPARE, Note(STOPPED, f"there are no photos in {name}"))
    summary, page = told(place, "run-1")
    assert (summary["status"], summary["config"], summary["nodes"]) == ("stopped", None, [])
    assert summary["reason"] == r"there are no photos in /photos/K\udcf6nig"
    assert summary["reason"] in page


def test_a_configuration_that_cannot_be_read_any_more_does_not_stop_the_report(place, config, nodes):
    prepare(config, place.root, "run-1", place.address, nodes)
    folder = place.root.reports / "run-1"
    (folder / "config.yaml").write_text("name: of another version\n")
    write_note(folder, PREPARE, Note("complete"))
    write_note(folder, nodes[0], Note("failed", "ValueError: no"))
    summary, page = told(place, "run-1")
    assert (summary["status"], summary["reason"]) == ("failed", f"{nodes[0]} failed: ValueError: no")
    assert [node["id"] for node in summary["nodes"]] == nodes
    assert "ValueError: no" in page
