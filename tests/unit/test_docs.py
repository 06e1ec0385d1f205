"""The documentation: pages that are written by a script are as it writes them, those written by hand are right."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from benchmarks import measurements
from deploy.cli import main
from docs import generate
from pipeline.config import Config, all_keys
from schemas.errors import BadInput

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
IN_DOCS = sorted(DOCS.glob("*.md"))
PAGES = [*IN_DOCS, *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "deploy/README.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def test_the_written_pages_are_as_make_docs_writes_them():
    """When this fails: `make docs`, and commit what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_another_page_would_be_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    assert generate.main(["--check"]) == 1
    assert not list(tmp_path.iterdir())
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    page = tmp_path / "configuration.md"
    page.write_text(page.read_text().replace("224", "160"))
    capsys.readouterr()
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("docs/configuration.md is not what `make docs` writes")


def test_the_terminal_s_width_does_not_change_the_pages(monkeypatch):
    before = generate.pages()
    monkeypatch.setenv("COLUMNS", "55")
    assert generate.pages() == before


def test_every_key_of_the_configuration_is_there_with_a_description():
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=- \*\*`|## )", page)
    found = {}
    for entry in entries:
        words = " ".join(entry.split())
        if match := re.match(r"- \*\*`([a-z_.]+)`\*\*: ([^;]+); (required|default \S+|default `[^`]+`)\. (.+)", words):
            found[match[1]] = match[4]
    assert sorted(found) == sorted(all_keys(Config))
    assert [key for key, text in found.items() if len(text.strip()) < 7] == []


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("image.size", "whole number, 32 to 1,024; default `224`."),
        ("training.fine_tuning.learning_rate", "number, above 0, at most 10, or empty; default empty."),
        ("training.head.dropout", "number, at least 0, below 1; default `0.2`."),
        ("task.label", "`label` or `species`; default `label`."),
        ("release.guarded_slices", "default `[label]`."),
        ("serving.exports", "list of `tflite` or `onnx`; default empty."),
        ("training.calibrate", "true or false; default `true`."),
    ],
)
def test_types_ranges_and_defaults_are_said_in_words(key, words):
    page = " ".join((DOCS / "configuration.md").read_text(encoding="utf-8").split())
    entry = page.partition(f"- **`{key}`**: ")[2].partition(" - **`")[0]
    assert words in entry


@every_page
def test_no_line_is_longer_than_120_signs(page):
    # What is in tables and cannot be broken is seen as one.
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    assert [number for number, line in lines if len(line) > 120] == []


@every_page
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        if "://" not in target:
            file = page.parent / target if target else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), (target, anchor)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@every_page
def test_paths_that_are_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:schemas|components|pipeline|deploy|tests|benchmarks)/[\w./-]+)`", text):
        # The page has its reader make those of flowers.
        assert "flowers" in path or (REPOSITORY / path).exists(), path


@every_page
def test_commands_in_the_pages_can_be_typed(page, monkeypatch):
    monkeypatch.setenv("WARMSTART_IMAGE", "registry.example/warmstart:1")  # as deploy/README.md has its reader do
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    # What a command prints begins with its version; the table of times has one of the help.
    for line in re.findall(r"^(?:\.venv/bin/)?warmstart (?!\.\.\.|\d|--help)([^#\n]*[^\s#])", text, re.MULTILINE):
        context = main.make_context("warmstart", shlex.split(line))
        while isinstance(context.command, click.Group):
            found, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(found, rest, parent=context)


def test_the_index_names_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in IN_DOCS if page.name != "README.md" and f"({page.name})" not in index] == []


def test_the_data_set_of_the_page_for_extending_can_be_added(tmp_path, monkeypatch):
    """The two files that the page has a reader write are a schema and a configuration."""
    from pipeline import config as configuration
    from pipeline.config import training

    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    [feature] = re.findall(r'```\n(feature \{\n  name: "label".*?)```', text, re.DOTALL)
    [yaml] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    curated = (REPOSITORY / "schemas" / "image_folder.pbtxt").read_text(encoding="utf-8")
    before, name, after = curated.partition('feature {\n  name: "label"\n')
    schema = text_format.Parse(before + feature + after.partition("\n}\n")[2], schema_pb2.Schema())
    assert name
    assert [one.name for one in schema.feature] == [
        one.name for one in text_format.Parse(curated, schema_pb2.Schema()).feature
    ]
    assert list(schema.feature[1].string_domain.value) == ["rose", "tulip"]
    (tmp_path / "flowers.yaml").write_text(yaml)
    with pytest.raises(BadInput, match=r"task.schema_name \(='flowers'\): no such schema"):
        configuration.load_config(str(tmp_path / "flowers.yaml"), [], [str(tmp_path)])
    (tmp_path / "flowers.pbtxt").write_text(text_format.MessageToString(schema))
    monkeypatch.setattr(training, "_SCHEMAS_FOLDER", tmp_path)
    read = configuration.load_config(str(tmp_path / "flowers.yaml"), [], [str(tmp_path)])
    assert (read.name, read.release.minimum_accuracy) == ("flowers", 0.8)


@pytest.mark.parametrize("part", ["demo", "results", *measurements.BENCHMARKS])
def test_every_measured_part_has_its_place_in_one_page(part):
    texts = [page.read_text(encoding="utf-8") for page in measurements.PAGES]
    assert sum(text.count(f"<!-- begin {part} -->\n") for text in texts) == 1
    assert sum(text.count(f"<!-- end {part} -->\n") for text in texts) == 1


def test_a_measured_part_replaces_the_earlier_one_and_nothing_else(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin demo -->\nold\n<!-- end demo -->\nafter\n")
    monkeypatch.setattr(measurements, "PAGES", (page,))
    measurements.write_part("demo", "first")
    measurements.write_part("demo", "second")
    before, second, day, after = page.read_text().split("\n\n")
    assert (before, second, after) == ("before\n<!-- begin demo -->", "second", "<!-- end demo -->\nafter\n")
    assert re.fullmatch(r"Measured on \d{4}-\d\d-\d\d on \d+ cores with \d+ GB of memory\.", day)
    with pytest.raises(ValueError, match="results has its markers in 0 pages"):
        measurements.write_part("results", "third")


def test_without_photos_a_part_is_skipped(tmp_path, capsys):
    assert measurements.measure("side_by_side", tmp_path) is None
    assert measurements.measure("results", tmp_path) is None
    assert "species is left out" in capsys.readouterr().out


def test_output_is_shown_in_lines_that_fit():
    shown = measurements.fenced("\n   name     value  \n" + "word " * 40 + "\n\nend\n").split("\n")
    assert shown[:2] == ["```", "   name     value"]
    assert shown[-3:] == ["", "end", "```"]
    assert all(len(line) <= 118 for line in shown)
    assert " ".join(shown[2:-3]).split() == ["word"] * 40
