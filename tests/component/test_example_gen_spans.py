"""ImageExampleGen over spans: the choice is TFX's own, and what is written is what TFX's resolvers look for."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from PIL import Image
from tfx.components.example_gen import utils as tfx_utils
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.span_range_strategy import SpanRangeStrategy
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.types import artifact_utils, channel, standard_artifacts

from components.example_gen.component import ImageExampleGen
from components.example_gen.found_photos import FolderRules
from components.example_gen.photo_rules import PhotoRules
from components.example_gen.report import read_report
from components.example_gen.spans import find_spans, fingerprint, parse_pattern, resolve_sources, span_number
from components.records import read_examples, split_files, text
from pipeline.config import load_config
from pipeline.graph import make_pipeline
from pipeline.places import Places
from schemas import features as f
from schemas.errors import BadInput
from tests.in_process import IN_PROCESS

PATTERNS = [
    "span-{SPAN}",
    "{SPAN:2}",
    "s{SPAN}/v{VERSION}",
    "{VERSION:2}.{SPAN}",
    "all/{SPAN:3}/photos-{VERSION}/x",
    "{YYYY}-{MM}-{DD}",
    "{YYYY}/{MM}/{DD}/v{VERSION}",
    "{DD}{MM}{YYYY}",
]
SPEC = re.compile(r"\{(\w+)(?::(\d))?\}")


def make_folders(root, *names):
    for name in names:
        os.makedirs(f"{root}/{name}", exist_ok=True)


def tfx_choice(root, pattern, asked=None):
    """(folder, span, version) that TFX's ExampleGen would read; None where it raises."""
    split = example_gen_pb2.Input.Split(name="single_split", pattern=pattern)
    static = range_config_pb2.StaticRange(start_span_number=asked, end_span_number=asked) if asked is not None else None
    range_config = range_config_pb2.RangeConfig(static_range=static) if static else None
    try:
        _, span, version = tfx_utils.calculate_splits_fingerprint_span_and_version(str(root), [split], range_config)
    except ValueError:
        return None
    return split.pattern, span, version


def our_choice(root, pattern, asked=None):
    """The same of ours."""
    try:
        found = resolve_sources({"image_folder": f"{root}/{pattern}"}, asked, settle_seconds=0)
    except BadInput:
        return None
    return os.path.relpath(found.folders["image_folder"], root), found.number, found.version


def fill(pattern: str, values: dict[str, object], zeros: int = 0) -> str:
    """A folder's name; numbers in their width, or with so many digits at least."""
    return SPEC.sub(lambda spec: str(values[spec[1]]).zfill(int(spec[2] or zeros)), pattern)


def day(number: int) -> dict[str, object]:
    year, month, day_of_month = tfx_utils.span_number_to_date(number)
    return {"YYYY": f"{year:04}", "MM": f"{month:02}", "DD": f"{day_of_month:02}"}


PIECES = ["{SPAN}", "{SPAN:2}", "{VERSION}", "{YYYY}-{MM}-{DD}", "{YYYY}", "{MM}", "{DD}", "{SPAN}/{VERSION}"]


@given(st.lists(st.sampled_from(PIECES) | st.sampled_from(["/", "-", "a"]), max_size=4))
def test_a_pattern_is_read_as_tfx_reads_it(pieces):
    path = "/" + "".join(pieces)
    split = example_gen_pb2.Input.Split(pattern=path)
    try:
        pattern = parse_pattern(path)
    except BadInput as error:
        event("refused")
        if "cannot be told apart" not in str(error):  # TFX finds that out when it cannot read the folders' names
            with pytest.raises(ValueError, match=r"spec|allowed"):
                tfx_utils.verify_split_pattern_specs(split)
        return
    event("a pattern" if pattern else "a folder")
    expected = (not pattern.dated, pattern.dated, pattern.versioned) if pattern else (False, False, False)
    assert tfx_utils.verify_split_pattern_specs(split) == expected


@pytest.mark.slow
@pytest.mark.release
@settings(max_examples=150, deadline=None)
@given(
    pattern=st.sampled_from(PATTERNS),
    spans=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 12)), min_size=1, max_size=6, unique=True),
    asked=st.sampled_from(["latest", "there", "anywhere"]),
    anywhere=st.integers(0, 99),
)
def test_of_well_named_folders_ours_is_tfx_s_choice(tmp_path_factory, pattern, spans, asked, anywhere):
    root = tmp_path_factory.mktemp("spans")
    first_day = 20_000 if "{YYYY}" in pattern else 0
    for span, version in spans:
        # As TFX writes the number that is asked for: no zeros in front where there is no width.
        make_folders(root, fill(pattern, {"SPAN": span, "VERSION": version, **day(first_day + span)}))
    number = {"latest": None, "there": first_day + spans[0][0], "anywhere": first_day + anywhere}[asked]
    expected = tfx_choice(root, pattern, number)
    event(f"{asked}: {'found' if expected else 'not there'}")
    assert our_choice(root, pattern, number) == expected
    assert expected or asked == "anywhere"
    for found in find_spans({"image_folder": f"{root}/{pattern}"}, settle_seconds=0).complete:
        ours = os.path.relpath(found.folders["image_folder"], root), found.number, found.version
        assert ours == tfx_choice(root, pattern, found.number)


def mostly(good: list[str], odd: list[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(good * 8 + odd)


VALUES = st.fixed_dictionaries(
    {
        "SPAN": mostly(["7", "12", "07", "120"], ["007", "", "x", "7x", "x7", "1.5", "7 copy", "1_0", "-7"]),
        "VERSION": mostly(["1", "2", "11"], ["01", "", "x", "2x"]),
        "YYYY": mostly(["2026", "2025"], ["0000", "26", "20260"]),
        "MM": mostly(["11", "02"], ["2", "13", "x"]),
        "DD": mostly(["22", "01"], ["30", "1", "01-copy"]),
    }
)


@pytest.mark.slow
@pytest.mark.release
@settings(max_examples=250, deadline=None)
@given(
    pattern=st.sampled_from(PATTERNS),
    names=st.lists(VALUES, min_size=1, max_size=3),
    asked=st.none() | st.sampled_from([7, 12, span_number(datetime.date(2026, 11, 22))]),
)
def test_of_folders_of_any_name_ours_is_tfx_s_choice_or_a_refusal(tmp_path_factory, pattern, names, asked):
    root = tmp_path_factory.mktemp("spans")
    for values in names:
        make_folders(root, SPEC.sub(lambda spec, of=values: of[spec[1]], pattern))
    ours, theirs = our_choice(root, pattern, asked), tfx_choice(root, pattern, asked)
    event(f"ours {'chooses' if ours else 'refuses'}, TFX {'chooses' if theirs else 'refuses'}")
    if ours is not None and theirs is None:
        # TFX looks for "7" where the folder is called "07".
        assert asked is not None
        assert re.search(rf"(^|\D)0+{asked}", ours[0])
    elif ours is not None:
        assert ours == theirs


@pytest.mark.parametrize(
    ("folders", "pattern", "asked", "tfx_takes", "ours"),
    [
        # Which of the twins comes first is the disk's business.
        (["1", "01"], "{SPAN}", None, "01?", "are each span 1 of"),
        (["1/v2", "1/v02"], "{SPAN}/v{VERSION}", None, "1/v0?2", "span 1, version 2"),
        # A name of one folder with the version of the other.
        (["1/v1", "01/v2"], "{SPAN}/v{VERSION}", None, "0?1/v2", "are each span 1 of"),
        # Names are compared up to the width, and no further.
        (["span-09", "span-100"], "span-{SPAN:2}", None, "span-10", "the folder .*/span-100 looks like"),
        (["2026-11-22", "2026-12-31-copy"], "{YYYY}-{MM}-{DD}", None, "2026-12-31", "the folder .*/2026-12-31-copy"),
        # Python reads these as numbers.
        (["span-1_0", "span-9"], "span-{SPAN}", None, "span-1_0", "the folder .*/span-1_0 looks like"),
        (["span--3"], "span-{SPAN}", None, "span--3", "the folder .*/span--3 looks like"),
    ],
)  # fmt: skip
def test_where_tfx_goes_on_with_a_folder_it_did_not_mean_ours_refuses(
    tmp_path, folders, pattern, asked, tfx_takes, ours
):
    make_folders(tmp_path, *folders)
    taken = tfx_choice(tmp_path, pattern, asked)
    assert taken is not None
    assert re.fullmatch(tfx_takes, taken[0])
    with pytest.raises(BadInput, match=ours):
        resolve_sources({"image_folder": f"{tmp_path}/{pattern}"}, asked, settle_seconds=0)


def test_where_tfx_refuses_ours_finds_what_can_be_meant(tmp_path):
    make_folders(tmp_path, "span-007", "a [1]/1")
    assert tfx_choice(tmp_path, "span-{SPAN}", 7) is None
    assert our_choice(tmp_path, "span-{SPAN}", 7) == ("span-007", 7, None)
    assert tfx_choice(tmp_path, "a [1]/{SPAN}") is None
    assert our_choice(tmp_path, "a [1]/{SPAN}") == ("a [1]/1", 1, None)


def test_a_file_that_fits_is_a_span_for_tfx_and_none_for_us(tmp_path):
    make_folders(tmp_path, "1")
    (tmp_path / "2").write_bytes(b"")
    assert tfx_choice(tmp_path, "{SPAN}") == ("2", 2, None)
    assert our_choice(tmp_path, "{SPAN}") == ("1", 1, None)


def write_photos(folder: Path, photos) -> set[str]:
    """Writes photos as one folder a class; their names, as the examples have them."""
    for photo in photos:
        (folder / photo.label).mkdir(parents=True, exist_ok=True)
        (folder / photo.label / photo.name).write_bytes(photo.photo_bytes)
    return {f"{photo.label}/{photo.name}" for photo in photos}


class Runs:
    """Runs of one small pipeline: ImageExampleGen, and a resolver of the last two spans."""

    def __init__(self, root: Path):
        self._root = root
        self._connection = metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite"))
        self._seen = 0

    def run(
        self,
        sources: dict[str, str],
        span: int | datetime.date | None = None,
        success_file: str = "_SUCCESS",
        settle_seconds: float = 0,
    ) -> dict[str, tuple]:
        """Kind of node -> (state, outputs by key)."""
        example_gen = ImageExampleGen(
            sources=sources,
            label_from="label",
            split_buckets={"train": 2, "eval": 1, "test": 1},
            rules=PhotoRules(min_side=1, max_pixels=10**6),
            code="1",
            span=span,
            folder_rules=FolderRules(success_file),
            settle_seconds=settle_seconds,
        )
        window = Resolver(
            strategy_class=SpanRangeStrategy,
            config={
                "range_config": range_config_pb2.RangeConfig(rolling_range=range_config_pb2.RollingRange(num_spans=2))
            },
            examples=channel.Channel(
                type=standard_artifacts.Examples, producer_component_id=example_gen.id, output_key="examples"
            ),
        ).with_id("Window")
        window.add_upstream_node(example_gen)
        LocalDagRunner().run(
            Pipeline(
                pipeline_name="spans",
                pipeline_root=str(self._root / "artifacts"),
                components=[example_gen, window],
                enable_cache=True,
                metadata_connection_config=self._connection,
                beam_pipeline_args=IN_PROCESS,
            )
        )
        return self._read_back()

    def _read_back(self) -> dict[str, tuple]:
        store = metadata_store.MetadataStore(self._connection)
        node_of = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in store.get_execution_types()}
        nodes = {}
        for execution in store.get_executions():
            if execution.id <= self._seen:
                continue
            outputs: dict[str, list] = {}
            for written in store.get_events_by_execution_ids([execution.id]):
                if written.type in (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT):
                    (artifact,) = store.get_artifacts_by_id([written.artifact_id])
                    (kind,) = store.get_artifact_types_by_id([artifact.type_id])
                    outputs.setdefault(written.path.steps[0].key, []).append(
                        artifact_utils.deserialize_artifact(kind, artifact)
                    )
            state = metadata_store_pb2.Execution.State.Name(execution.last_known_state)
            nodes[node_of[execution.type_id]] = (state, outputs)
        self._seen = max(execution.id for execution in store.get_executions())
        return nodes


def span_and_version(artifact) -> tuple[int, int | None]:
    version = artifact.get_int_custom_property("version") if artifact.has_custom_property("version") else None
    return artifact.get_int_custom_property("span"), version


def files_read(examples) -> set[str]:
    splits = artifact_utils.decode_split_names(examples.split_names)
    files = [file for split in splits for file in split_files(examples, split)]
    return {text(example, f.FILE_NAME) for example in read_examples(files)}


def photos_state(nodes) -> tuple[str, tuple[int, int | None], set[str]]:
    state, outputs = nodes["ImageExampleGen"]
    (examples,) = outputs["examples"]
    return state, span_and_version(examples), files_read(examples)


def test_spans_are_read_once_each_and_collected_by_tfx_s_resolver(tmp_path, drawn_photos):
    runs, arriving = Runs(tmp_path), tmp_path / "arriving"
    sources = {"image_folder": f"{arriving}/span-{{SPAN}}"}
    ninth = write_photos(arriving / "span-9", drawn_photos[:8])
    assert photos_state(runs.run(sources)) == ("COMPLETE", (9, None), ninth)
    assert photos_state(runs.run(sources)) == ("CACHED", (9, None), ninth)

    tenth = write_photos(arriving / "span-10", drawn_photos[8:16])
    nodes = runs.run(sources)
    assert photos_state(nodes) == ("COMPLETE", (10, None), tenth)
    assert [span_and_version(examples)[0] for examples in nodes["Resolver"][1]["examples"]] == [10, 9]
    assert photos_state(runs.run(sources, span=10)) == ("CACHED", (10, None), tenth)
    assert photos_state(runs.run(sources, span=9)) == ("CACHED", (9, None), ninth)

    with pytest.raises(BadInput, match=r"data.span asks for span 11"):
        runs.run(sources, span=11)
    more = write_photos(arriving / "span-9", drawn_photos[16:20])
    assert photos_state(runs.run(sources)) == ("CACHED", (10, None), tenth)
    assert photos_state(runs.run(sources, span=9)) == ("COMPLETE", (9, None), ninth | more)


@pytest.mark.slow
@pytest.mark.release
def test_days_and_versions(tmp_path, drawn_photos):
    runs, arriving = Runs(tmp_path), tmp_path / "arriving"
    sources = {"image_folder": f"{arriving}/{{YYYY}}-{{MM}}-{{DD}}/version-{{VERSION}}"}
    older, newer = datetime.date(2026, 9, 30), datetime.date(2026, 11, 22)
    first = write_photos(arriving / "2026-09-30" / "version-2", drawn_photos[:4])
    second = write_photos(arriving / "2026-11-22" / "version-9", drawn_photos[4:8])
    corrected = write_photos(arriving / "2026-11-22" / "version-10", drawn_photos[8:12])
    assert first.isdisjoint(second | corrected)
    assert photos_state(runs.run(sources)) == ("COMPLETE", (span_number(newer), 10), corrected)
    assert photos_state(runs.run(sources, span=older)) == ("COMPLETE", (span_number(older), 2), first)
    assert span_number(newer) == tfx_utils.date_to_span_number(2026, 11, 22)


def test_a_folder_without_spans_is_span_0_as_ever(tmp_path, drawn_photos):
    runs = Runs(tmp_path)
    names = write_photos(tmp_path / "photos", drawn_photos[:8])
    sources = {"image_folder": str(tmp_path / "photos")}
    assert photos_state(runs.run(sources)) == ("COMPLETE", (0, None), names)
    assert photos_state(runs.run(sources)) == ("CACHED", (0, None), names)


def test_data_sets_at_different_spans_stop_the_step(tmp_path, drawn_photos):
    runs = Runs(tmp_path)
    sources = {name: f"{tmp_path}/{name}/{{SPAN}}" for name in ("cats_vs_dogs", "image_folder")}
    write_photos(tmp_path / "cats_vs_dogs" / "2", drawn_photos[:4])
    write_photos(tmp_path / "image_folder" / "1", drawn_photos[4:8])
    with pytest.raises(BadInput, match="span 2 of image_folder"):
        runs.run(sources)
    write_photos(tmp_path / "image_folder" / "2", drawn_photos[8:12])
    state, (span, _), names = photos_state(runs.run(sources))
    assert (state, span, len(names)) == ("COMPLETE", 2, 8)


def test_an_empty_span_stops_the_step(tmp_path, drawn_photos):
    write_photos(tmp_path / "photos" / "1", drawn_photos[:4])
    make_folders(tmp_path, "photos/2")
    with pytest.raises(BadInput, match="/photos/2 is empty; expected photos"):
        Runs(tmp_path).run({"image_folder": f"{tmp_path}/photos/{{SPAN}}"})


@pytest.mark.slow
@pytest.mark.release
def test_a_span_is_read_once_however_it_became_complete(tmp_path, drawn_photos):
    runs = Runs(tmp_path)
    sources = {"image_folder": f"{tmp_path}/photos/{{SPAN}}"}
    first = write_photos(tmp_path / "photos" / "1", drawn_photos[:4])
    with pytest.raises(BadInput, match=r"no span of .* is complete yet: .*/photos/1 changed "):
        runs.run(sources, settle_seconds=300)
    assert photos_state(runs.run(sources)) == ("COMPLETE", (1, None), first)
    (tmp_path / "photos" / "1" / "_SUCCESS").write_bytes(b"")
    second = write_photos(tmp_path / "photos" / "2", drawn_photos[4:8])
    assert photos_state(runs.run(sources, settle_seconds=300)) == ("CACHED", (1, None), first)
    (tmp_path / "photos" / "2" / "_SUCCESS").write_bytes(b"")
    assert photos_state(runs.run(sources, settle_seconds=300)) == ("COMPLETE", (2, None), second)


def test_a_renamed_marker_is_none_of_the_rejected_files(tmp_path, drawn_photos):
    names = write_photos(tmp_path / "photos" / "1", drawn_photos[:4])
    (tmp_path / "photos" / "1" / "done.txt").write_bytes(b"")
    sources = {"image_folder": f"{tmp_path}/photos/{{SPAN}}"}
    nodes = Runs(tmp_path).run(sources, success_file="done.txt", settle_seconds=300)
    assert photos_state(nodes) == ("COMPLETE", (1, None), names)
    (report,) = nodes["ImageExampleGen"][1]["ingest_report"]
    assert read_report(report.uri)[1] == []


def test_what_was_converted_is_counted_and_keeps_the_identity_of_its_file(tmp_path, drawn_photos):
    def encoded(image_format, i):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(drawn_photos[i].photo_bytes)).save(buffer, image_format)
        return buffer.getvalue()

    folder = tmp_path / "photos" / "1"
    write_photos(folder, drawn_photos[:4])
    files = {"a.webp": encoded("WEBP", 4), "b.jpg": encoded("WEBP", 5), "c.tif": encoded("TIFF", 6)}
    for name, content in files.items():
        (folder / "cat" / name).write_bytes(content)
    (folder / "_SUCCESS").write_bytes(b"")
    nodes = Runs(tmp_path).run({"image_folder": f"{tmp_path}/photos/{{SPAN}}"})
    (report,), (examples,) = (nodes["ImageExampleGen"][1][key] for key in ("ingest_report", "examples"))
    counts, rejected = read_report(report.uri)
    assert (counts["converted"], counts["accepted"], rejected) == ({"TIFF": 1, "WebP": 2}, 7, [])
    assert counts["formats"] == {"JPEG": 2, "PNG": 2, "TIFF": 1, "WebP": 2}
    found = {
        text(example, f.CONTENT_HASH): example.features.feature[f.IMAGE].bytes_list.value[0]
        for split in artifact_utils.decode_split_names(examples.split_names)
        for example in read_examples(split_files(examples, split))
    }
    for content in files.values():
        assert found[hashlib.sha256(content).hexdigest()].startswith(b"\x89PNG")


def told_to_the_step(sources: dict[str, str], **keywords) -> dict:
    folder_rules = FolderRules(keywords.pop("success_file", "_SUCCESS"))
    component = ImageExampleGen(sources, "label", {"train": 1}, PhotoRules(1, 10**6), "1", folder_rules, **keywords)
    return component.driver_class(None).resolve_exec_properties(dict(component.exec_properties), None, None)


def test_what_the_step_is_told_does_not_say_how_the_span_was_found(tmp_path, drawn_photos):
    write_photos(tmp_path / "photos" / "7", drawn_photos[:4])
    sources = {"image_folder": f"{tmp_path}/photos/{{SPAN}}"}
    settled = told_to_the_step(sources, settle_seconds=0)
    (tmp_path / "photos" / "7" / "_SUCCESS").write_bytes(b"")
    assert told_to_the_step(sources) == settled
    assert told_to_the_step(sources, span=7, settle_seconds=1) == settled
    assert json.loads(settled["photos"]) == {
        "background": "#ffffff",
        "convert": True,
        "max_file_megabytes": 100,
        "label_from": "label",
        "max_pixels": 10**6,
        "min_side": 1,
        "sources": {"image_folder": f"{tmp_path}/photos/7"},
    }
    assert "{SPAN}" not in json.dumps({key: str(value) for key, value in settled.items()})
    assert settled["input_fingerprint"] == fingerprint(resolve_sources(sources))
    # Of another marker the step must know that it is no photo.
    renamed = told_to_the_step(sources, success_file="done", settle_seconds=0)
    assert json.loads(renamed["photos"])["success_file"] == "done"
    (tmp_path / "photos" / "7" / "done").write_bytes(b"")
    assert told_to_the_step(sources, success_file="done") == renamed


def test_the_graph_hands_on_the_span_asked_for_to_those_it_is_asked_of(tiny_backbone):
    config = load_config(
        "image_folder",
        [
            "data.span=2026-11-22",
            "data.success_file=done",
            "data.settle_seconds=7",
            f"backbone.handle={tiny_backbone}",
            "evaluation.further_label=label",
        ],
        ["/photos/{YYYY}-{MM}-{DD}"],
    )
    learnt, further = {"image_folder": "/photos/{YYYY}-{MM}-{DD}"}, {"image_folder": "/further/{SPAN}"}
    pipeline = make_pipeline(config, Places("artifacts", "serving"), learnt, further, None, [])
    told = {
        component.id: json.loads(component.exec_properties["photos"])
        for component in pipeline.components
        if isinstance(component, ImageExampleGen)
    }
    asked_of = {name: (settings["sources"], settings["span"]) for name, settings in told.items()}
    number = span_number(datetime.date(2026, 11, 22))
    assert asked_of == {"ImageExampleGen": (learnt, number), "FurtherExampleGen": (further, None)}
    assert {(settings["success_file"], settings["settle_seconds"]) for settings in told.values()} == {("done", 7)}
