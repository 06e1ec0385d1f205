"""The configuration: what is refused, in which words, and what it costs to find out."""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen.photo_rules import PhotoRules
from pipeline.config import Config, FineTuningConfig, all_keys, dump_config, known_configs, load_config
from pipeline.config.loading import read_dumped_config
from schemas.errors import BadInput

REPOSITORY = Path(__file__).parents[2]
FILES = Path(__file__).parent / "configs"
VALID = sorted((FILES / "valid").glob("*.yaml"))
INVALID = sorted((FILES / "invalid").glob("*.yaml"))
MINIMAL = str(FILES / "valid" / "minimal.yaml")
BOTH = ["cats_vs_dogs=/cats", "oxford_iiit_pet=/pets"]
BOTH_FLAGS = "--data cats_vs_dogs=DIR --data oxford_iiit_pet=DIR"


def problems_of(*args, **kwargs) -> list[str]:
    """The sentences of the refusal, without the file they are about."""
    with pytest.raises(BadInput) as error:
        load_config(*args, **kwargs)
    first, *listed = str(error.value).split("\n")
    if not listed:
        return [first]
    assert first.endswith(f"{len(listed)} problems")
    return [line.removeprefix("  - ") for line in listed]


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_file_loads(path):
    assert isinstance(load_config(str(path)), Config)


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_file_is_refused_in_the_words_of_its_first_lines(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    expected = [line.removeprefix("# expect: ") for line in lines if line.startswith("# expect: ")]
    assert expected
    with pytest.raises(BadInput) as error:
        load_config(str(path))
    message = str(error.value)
    assert str(path) in message
    assert [part for part in expected if part not in message] == []
    listed = [line for line in message.split("\n") if line.startswith("  - ")]
    assert len(listed) == max(0, len(expected) - 1), "a problem nobody expects, or one that is not told"


def _repeated(levels: int, times: int) -> str:
    """Each level repeats the one below it so many times."""
    lines = ["a0: &a0 [photo]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * times)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (_repeated(12, 9), "it has more than 20,000 values, including those that its aliases repeat"),
        (f"notify: {{command: {'[' * 5000 + ']' * 5000}}}", "it is nested more than 32 levels deep"),
        ("notify: &notify\n  command: [*notify]\n", "the alias *notify is part of what it stands for"),
    ],
    ids=["repeated", "nested", "endless"],
)
def test_yaml_that_nobody_can_have_meant_is_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    [said] = problems_of(str(file))
    assert said == f"configuration file {file} cannot be read as YAML: {sentence}"


def test_values_of_a_file_arrive_and_the_rest_has_its_default():
    config = load_config(str(FILES / "valid" / "every_section.yaml"))
    assert (config.image.size, config.image.resize_method, config.image.antialias) == (32, "area", True)
    assert config.data.splits.model_dump() == {"train": 6, "eval": 2, "test": 2}
    assert config.training.fine_tuning.learning_rate == 1e-5
    assert config.training.fine_tuning.patience == FineTuningConfig().patience
    merged = load_config(str(FILES / "valid" / "anchors_and_merges.yaml")).training
    assert (merged.feature_extraction.epochs, merged.fine_tuning.epochs, merged.fine_tuning.patience) == (3, 2, 1)


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        ([], 224),
        (["backbone.handle=efficientnet_lite1"], 240),
        (["backbone.handle=efficientnet_lite2"], 260),
        (["backbone.handle=https://example.org/vector"], 224),
        (["backbone.handle=efficientnet_lite2", "image.size=160"], 160),
        (["backbone.handle=efficientnet_lite2", "image.antialias=true"], 260),
    ],
)
def test_images_are_as_large_as_the_backbone_was_published_for(overrides, size, tmp_path):
    config = load_config(MINIMAL, overrides)
    assert config.image.size == size
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert read_dumped_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("written", "read"),
    [("white", "#ffffff"), ("'#0f0'", "#00ff00"), ("'#102030'", "#102030"), ("[1, 2, 255]", "#0102ff")],
)
def test_a_background_is_a_name_a_code_or_three_numbers(written, read):
    config = load_config(MINIMAL, [f"image.background={written}", "data.min_side=3"])
    assert config.image.background == read
    assert f"background: '{read}'" in dump_config(config)
    assert config.photo_rules == PhotoRules(min_side=3, background=read)


@pytest.mark.parametrize("written", ["whiteish", "", "'#ffffff80'", "[1, 2]", "[1, 2, 256]", "[1, 2, x]", "7"])
def test_what_is_no_background_is_refused(written):
    [problem] = problems_of(MINIMAL, [f"image.background={written}"])
    assert 'expected a colour: a name such as white, "#ffffff" in quotes, or [255, 255, 255]' in problem


def test_the_defaults_of_the_rules_for_photos_are_those_of_the_configuration():
    assert load_config(MINIMAL).photo_rules == PhotoRules()


def test_more_pixels_than_tensorflow_decodes_are_not_promised():
    [problem] = problems_of(MINIMAL, ["data.max_pixels=600000000"])
    assert "data.max_pixels (=600000000): input should be less than or equal to 536870911" in problem


def test_each_ready_made_config_loads_and_is_named_as_its_file():
    assert known_configs() == [
        "cats_vs_dogs", "image_folder", "image_masks", "oxford_iiit_pet", "oxford_iiit_pet_masks", "species"
    ]  # fmt: skip
    for name in known_configs():
        config = load_config(name, data=BOTH if name == "species" else ["/photos"])
        assert (config.name, config.task.schema_name) == (name, name)


def test_a_configuration_cannot_be_changed_after_it_was_checked():
    config = load_config(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.image.size = 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cats_vs_dog", "unknown configuration 'cats_vs_dog'; did you mean 'cats_vs_dogs'? Known: cats_vs_dogs,"),
        (
            "zzz",
            "unknown configuration 'zzz'; known: cats_vs_dogs, image_folder, image_masks, oxford_iiit_pet, "
            "oxford_iiit_pet_masks, species, or the path",
        ),
        ("", "unknown configuration ''"),
        ("absent.yaml", "configuration file absent.yaml does not exist; expected a YAML file"),
        (str(FILES), f"configuration file {FILES} is a folder; expected a YAML file"),
        ("a" * 300 + ".yaml", "does not exist"),
    ],
)
def test_no_such_configuration(name, says):
    assert says in problems_of(name)[0]


def test_a_file_that_is_not_utf8(tmp_path):
    for encoded in (Path(MINIMAL).read_bytes() + b"# caf\xe9\n", Path(MINIMAL).read_text().encode("utf-16")):
        (tmp_path / "x.yaml").write_bytes(encoded)
        assert "x.yaml cannot be read as YAML: 'utf-8' codec" in problems_of(str(tmp_path / "x.yaml"))[0]


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbf" + Path(MINIMAL).read_bytes())
    assert load_config(str(tmp_path / "x.yaml")) == load_config(MINIMAL)


@pytest.mark.parametrize("data", [[], ["/photos"], ["cats_vs_dogs=/photos"]], ids=str)
@pytest.mark.parametrize(
    "key", [*(k for k in Config.model_fields if k != "name"), "data.sources", "training.fine_tuning"]
)
def test_a_section_that_is_no_section_gives_a_sentence(key, data):
    for value in ("", "5", "words", "[1]", "[{}]", "true", "{zzz: 1}", "{5: 1}", "{null: 1}", "{2024-01-01: 1}"):
        told = "\n".join(problems_of(MINIMAL, [f"{key}={value}"], data))
        assert f"{key} " in told or f"'{key}." in told or f"{key}: " in told, value


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "1.e-3", "0.001", ".1e-2", "+1e-3"])
def test_set_reads_a_number_as_a_person_does(text):
    learning_rate = load_config(
        MINIMAL, [f"training.fine_tuning.learning_rate={text}"]
    ).training.fine_tuning.learning_rate
    assert type(learning_rate) is float
    assert learning_rate == 0.001


def test_set_goes_below_a_section_that_the_file_leaves_empty(tmp_path):
    (tmp_path / "x.yaml").write_text(Path(MINIMAL).read_text() + "training:\nimage:\n")
    config = load_config(str(tmp_path / "x.yaml"), ["training.fine_tuning.epochs=7", "image.size=64"])
    assert (config.training.fine_tuning.epochs, config.image.size) == (7, 64)


def test_the_last_set_wins_and_other_values_stay():
    config = load_config(
        str(FILES / "valid" / "every_section.yaml"),
        ["image.size=64", "image.size=96", "backbone.handle=http://x.org/a=b"],
    )
    assert (config.image.size, config.image.resize_method) == (96, "area")
    assert config.backbone.handle == "http://x.org/a=b"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("image.size", "--set 'image.size': expected key=value, such as image.size=224"),
        ("=3", "--set '=3': expected key=value"),
        ("image.size={", "--set 'image.size={': the value cannot be read as YAML"),
        ("image.size=2024-13-45", "--set 'image.size=2024-13-45': the value cannot be read as YAML"),
        ("name.x=3", "--set 'name.x=3': name is a value, not a section"),
        ("image.sise=64", "unknown key 'image.sise'; did you mean 'image.size'?"),
        ("imagee.size=64", "unknown key 'imagee'; did you mean 'image'?"),
        ("training.fine_tuning.epoch=3", "did you mean 'training.fine_tuning.epochs'?"),
        ("image.size=0", "image.size (=0): input should be greater than or equal to 32"),
        ("image.size=", "image.size (=None): input should be a valid integer"),
        ("image.size=1e400", "image.size (=inf)"),
        ("image.size.x=3", "image.size (={'x': 3}): input should be a valid integer"),
        ("image..size=3", "unknown key 'image.'"),
        ("backbone.handle=efficientnet_lite9", "Backbone 'efficientnet_lite9' is unknown"),
    ],
)
def test_a_wrong_set(override, says):
    problems = problems_of(MINIMAL, [override])
    assert len(problems) == 1
    assert says in problems[0]


def test_all_problems_of_file_set_and_data_are_told_at_once():
    path = str(FILES / "invalid" / "image_size_zero.yaml")
    problems = problems_of(path, ["training.sed=1", "image.size", "training.head.dropout=2"], ["oxford_iiit_pet=/x"])
    fragments = [
        "--set 'image.size'",
        "has no data set oxford_iiit_pet",
        "'training.seed'",
        "image.size (=0)",
        "dropout (=2)",
    ]
    assert len(problems) == len(fragments)
    for fragment, problem in zip(fragments, problems, strict=True):
        assert fragment in problem


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        ("/photos", "/photos"),
        ("image_folder=/photos", "/photos"),
        ("photos", str(Path("photos").absolute())),
        ("image_folder=photos", str(Path("photos").absolute())),
        ("~/photos", os.path.expanduser("~/photos")),
        ("tfds:flowers", "tfds:flowers"),
        ("image_folder=tfds:flowers", "tfds:flowers"),
        ("gs://bucket/photos", "gs://bucket/photos"),
        ("/photos/span-{SPAN}", "/photos/span-{SPAN}"),
        ("{YYYY}-{MM}-{DD}/v{VERSION:2}", str(Path("{YYYY}-{MM}-{DD}/v{VERSION:2}").absolute())),
        ("~/{SPAN}", os.path.expanduser("~/{SPAN}")),
        ("gs://bucket/{YYYY}/{MM}/{DD}", "gs://bucket/{YYYY}/{MM}/{DD}"),
        ("/photos/a=b", "/photos/a=b"),
        ("/cats_vs_dogs=1/photos", "/cats_vs_dogs=1/photos"),
    ],
)
def test_data_for_one_data_set(data, folder):
    assert load_config("image_folder", data=[data]).data.sources == {"image_folder": folder}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "no folder given: say where the image_folder photos are with --data DIR"),
        ([""], "no folder given: say"),
        (["image_folder="], "no folder given: say"),
        (["image_foldr=/x"], "--data image_foldr=/x: unknown data set 'image_foldr'; did you mean 'image_folder'?"),
        (["cats_vs_dogs=/x"], "this configuration has no data set cats_vs_dogs; expected image_folder"),
        (["/x", "/y"], "--data /y: image_folder already has a folder; expected one folder for each data set"),
        (["image_folder=/x", "image_folder=/x"], "image_folder already has a folder"),
    ],
)  # fmt: skip
def test_wrong_data_for_one_data_set(data, says):
    assert says in problems_of("image_folder", data=data)[0]


def test_data_for_two_data_sets():
    expected = {"cats_vs_dogs": "/cats", "oxford_iiit_pet": "/pets"}
    assert load_config("species", data=BOTH).data.sources == expected
    assert load_config("species", data=BOTH[::-1]).data.sources == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], f"no folder given for cats_vs_dogs and oxford_iiit_pet: use {BOTH_FLAGS}"),
        (BOTH[:1], "no folder given for oxford_iiit_pet: use --data"),
        (["/x"], f"--data /x: this configuration has 2 data sets; expected {BOTH_FLAGS}"),
        ([*BOTH, "/x"], "--data /x: this configuration has 2 data sets"),
        ([*BOTH, "image_folder=/x"], "has no data set image_folder; expected cats_vs_dogs or oxford_iiit_pet"),
        (["cats_vs_dog=/x", *BOTH], "--data cats_vs_dog=/x: unknown data set 'cats_vs_dog'; did you mean"),
        ([*BOTH, "cats_vs_dogs=/other"], "cats_vs_dogs already has a folder"),
    ],
)  # fmt: skip
def test_wrong_data_for_two_data_sets(data, says):
    assert says in problems_of("species", data=data)[0]


def test_data_for_data_sets_that_are_no_names():
    problems = problems_of(MINIMAL, ["data.sources={5: /x}"], ["cats_vs_dogs=/x"])
    assert problems[0] == "--data cats_vs_dogs=/x: this configuration has no data set cats_vs_dogs; expected 5"
    assert problems[1].startswith("data.sources: unknown data set '5'")


@settings(max_examples=60, deadline=None)
@given(
    folder=st.text(st.characters(exclude_categories=("Cs",)), min_size=1),
    learning_rate=st.floats(0, 10, exclude_min=True),
    dropout=st.floats(0, 1, exclude_max=True),
    size=st.integers(32, 1024),
    unfreeze=st.none() | st.sampled_from(["", "null", "1e5", "yes", "a: b", "#", "block7a_(dw)?conv/", "'\"", "\\d\n"]),
    beam_args=st.lists(st.text(st.characters(exclude_categories=("Cs",)))),
)
def test_a_dumped_configuration_reads_back_the_same(
    tmp_path_factory, folder, learning_rate, dropout, size, unfreeze, beam_args
):
    raw = load_config(MINIMAL).model_dump()
    raw["data"]["sources"] = {"image_folder": folder}
    raw["training"]["head"]["dropout"] = dropout
    raw["training"]["fine_tuning"].update(learning_rate=learning_rate, unfreeze=unfreeze)
    raw["image"]["size"] = size
    raw["runtime"]["beam_pipeline_args"] = beam_args
    config = Config.model_validate(raw)
    path = tmp_path_factory.mktemp("dumped") / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(str(path)) == config


@pytest.mark.parametrize("key", [key for key in all_keys() if key != "data.sources"])
def test_every_key_can_be_set_to_the_value_it_has(key):
    config = load_config(str(FILES / "valid" / "every_section.yaml"))
    value = config.model_dump()
    for part in key.split("."):
        value = value[part]
    assert load_config(str(FILES / "valid" / "every_section.yaml"), [f"{key}={json.dumps(value)}"]) == config


def test_reading_a_configuration_imports_nothing_heavy():
    code = (
        "import sys; from pipeline.config import load_config; load_config('image_folder', ['image.size=64'], ['/x'])\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'tf_keras', 'tensorflow_hub', 'tensorflow_transform', 'numpy',"
        " 'tensorflow_model_analysis', 'ml_metadata', 'google.protobuf', 'PIL', 'scipy', 'pandas', 'grpc'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


NUMBERED, DATED = "/photos/span-{SPAN}", "/photos/{YYYY}-{MM}-{DD}"


@pytest.mark.parametrize(
    ("data", "text", "span"),
    [
        (NUMBERED, "17", 17),
        (NUMBERED, "'17'", 17),
        (NUMBERED, "0", 0),
        (NUMBERED, "010", 10),
        (NUMBERED, "'018'", 18),
        (NUMBERED, "018", 18),
        (NUMBERED, "20261122", 20261122),
        (NUMBERED, "null", None),
        (NUMBERED, "", None),
        (DATED, "2026-11-22", datetime.date(2026, 11, 22)),
        (DATED, "'2026-11-22'", datetime.date(2026, 11, 22)),
        (DATED, "", None),
    ],
)
def test_the_span_asked_for(tmp_path, data, text, span):
    config = load_config("image_folder", [f"data.span={text}"], [data])
    assert config.data.span == span
    assert type(config.data.span) is type(span)
    in_a_file = tmp_path / "x.yaml"
    in_a_file.write_text(
        f"{{name: x, task: {{schema_name: image_folder}}, data: {{span: {text}, sources: {{image_folder: '{data}'}}}}}}"
    )
    assert load_config(str(in_a_file)).data.span == span
    in_a_file.write_text(dump_config(config))
    assert load_config(str(in_a_file)) == config


SPAN_EXPECTED = "expected a span's number such as 17, a day such as 2026-11-22, or nothing for the latest"


@pytest.mark.parametrize(
    ("data", "text", "says"),
    [
        (NUMBERED, "-1", f"data.span (=-1): {SPAN_EXPECTED}"),
        (NUMBERED, "1.0", f"data.span (=1.0): {SPAN_EXPECTED}"),
        (NUMBERED, "true", f"data.span (=True): {SPAN_EXPECTED}"),
        (NUMBERED, "latest", f"data.span (='latest'): {SPAN_EXPECTED}"),
        (NUMBERED, "[17]", f"data.span (=[17]): {SPAN_EXPECTED}"),
        (NUMBERED, "1" + "0" * 18, f"data.span (=1{'0' * 18}): {SPAN_EXPECTED}"),
        (DATED, "'2026-02-30'", f"data.span (='2026-02-30'): {SPAN_EXPECTED}"),
        (DATED, "2026-11-22T03:00:00Z", "data.span (=datetime.datetime(2026, 11, 22, 3, 0"),
        (NUMBERED, "2026-11-22", f"data.span is 2026-11-22, but the spans of {NUMBERED} are numbers; expected a span"),
        (DATED, "17", f"data.span is 17, but the spans of {DATED} are days; expected a span such as 2026-11-22"),
        ("/photos", "17", f"data.span is 17, but there are no spans in /photos; expected a path such as {NUMBERED}"),
        ("tfds:flowers", "17", "data.span is 17, but there are no spans in tfds:flowers; expected"),
    ],
)  # fmt: skip
def test_a_span_that_cannot_be_asked_for(data, text, says):
    problems = problems_of("image_folder", [f"data.span={text}"], [data])
    assert len(problems) == 1
    assert says in problems[0]


@pytest.mark.parametrize(
    ("data", "overrides", "window", "test_spans"),
    [
        (NUMBERED, [], None, None),
        (NUMBERED, ["data.window=4", "data.test_spans=[1, '02', 010]"], 4, [1, 2, 10]),
        (NUMBERED, ["data.window='4'", "data.test_spans="], 4, None),
        (NUMBERED, ["data.window=all", "data.span=17"], "all", None),
        (DATED, ["data.window=1", "data.test_spans=[2026-11-22, '2026-11-23']"], 1, [22, 23]),
        (DATED, ["data.window=", "data.test_spans=[2026-11-22]"], None, [22]),
    ],
)
def test_a_window_and_the_spans_to_test_on(tmp_path, data, overrides, window, test_spans):
    config = load_config("image_folder", overrides, [data])
    assert config.data.window == window
    if data == DATED and test_spans:
        test_spans = [datetime.date(2026, 11, day) for day in test_spans]
    assert config.data.test_spans == test_spans
    dumped = tmp_path / "x.yaml"
    dumped.write_text(dump_config(config))
    assert load_config(str(dumped)) == config


WINDOW_EXPECTED = "expected a number of spans such as 4, all, or nothing for one span on its own"
TEST_SPANS_EXPECTED = "expected a list of spans, by number such as [1, 2] or by day such as [2026-11-22]"


@pytest.mark.parametrize(
    ("data", "override", "says"),
    [
        *((NUMBERED, f"window={text}", f"data.window (={found}): {WINDOW_EXPECTED}") for text, found in [
            ("0", "0"), ("'0'", "'0'"), ("-4", "-4"), ("4.0", "4.0"), ("true", "True"), ("every", "'every'"),
            ("[4]", "[4]"), ("2026-11-22", "datetime.date(2026, 11, 22)"),
        ]),
        *((NUMBERED, f"test_spans={text}", f"data.test_spans (={found}): {TEST_SPANS_EXPECTED}") for text, found in [
            ("1", "1"), ("[]", "[]"), ("[-1]", "[-1]"), ("[1, null]", "[1, None]"), ("[true]", "[True]"),
            ("all", "'all'"), ("[first]", "['first']"), ("['2026-02-30']", "['2026-02-30']"),
        ]),
        ("/photos", "window=4", f"data.window is 4, but there are no spans in /photos; expected a path such as "
         f"{NUMBERED}, or leave out data.window"),
        ("/photos", "window=all", "data.window is all, but there are no spans in /photos; expected"),
        ("/photos", "test_spans=[3, 4]", "data.test_spans has 3, but there are no spans in /photos; expected"),
        (NUMBERED, "test_spans=[17, 2026-11-22]", f"data.test_spans has 2026-11-22, but the spans of {NUMBERED} are "
         "numbers; expected a span such as 17"),
        (DATED, "test_spans=[17]", f"data.test_spans has 17, but the spans of {DATED} are days; expected a span such "),
        *((NUMBERED, f"success_file={text}", f"data.success_file (={found}): expected the name of a file in each "
           "span's folder, such as _SUCCESS, without a /") for text, found in [
            ("a/b", "'a/b'"), ("/_SUCCESS", "'/_SUCCESS'"), ("..", "'..'"), ("''", "''"), ('"a\\0"', "'a\\x00'"),
        ]),
        (NUMBERED, "success_file=1", "data.success_file (=1): input should be a valid string"),
        (NUMBERED, "settle_seconds=-1", "data.settle_seconds (=-1): input should be greater than or equal to 0"),
        (NUMBERED, "settle_seconds=.inf", "data.settle_seconds (=inf): input should be a finite number"),
        (NUMBERED, "settle_seconds=.nan", "data.settle_seconds (=nan): input should be"),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be_had(data, override, says):
    problems = problems_of("image_folder", [f"data.{override}"], [data])
    assert len(problems) == 1
    assert says in problems[0]


def test_a_window_of_no_folder_yet_is_no_problem_of_its_own():
    assert problems_of("image_folder", ["data.window=4", "data.test_spans=[1]"])[0].endswith(
        "no folder given: say where the image_folder photos are with --data DIR"
    )


def test_spans_of_two_data_sets_go_together():
    overrides = ["data.span=17"]
    config = load_config("species", overrides, ["cats_vs_dogs=/cats/{SPAN}", "oxford_iiit_pet=/pets"])
    assert config.data.span == 17
    assert load_config("species", overrides, ["cats_vs_dogs=/cats/{SPAN}", "oxford_iiit_pet=/pets/s{SPAN:2}"])
    for other in ("/pets/{YYYY}{MM}{DD}", "/pets/{SPAN}/{VERSION}"):
        assert problems_of("species", data=["cats_vs_dogs=/cats/{SPAN}", f"oxford_iiit_pet={other}"]) == [
            f"configuration species: data.sources has /cats/{{SPAN}} and {other}; expected all of them to "
            "use numbers or all days, and {VERSION} in all of them or in none"
        ]
    assert problems_of("species", ["data.span=17"], BOTH)[0].endswith(
        "data.span is 17, but there are no spans in /cats and /pets; expected a path such as /photos/span-{SPAN}, or "
        "leave out data.span"
    )


def test_a_span_without_a_folder_is_no_problem_of_its_own():
    assert problems_of("image_folder", ["data.span=17"])[0].endswith(
        "no folder given: say where the image_folder photos are with --data DIR"
    )


def test_a_malformed_span_of_a_folder_is_told_with_its_key():
    assert problems_of("image_folder", data=["/photos/{SPAN:x}"])[0].endswith(
        "data.sources.image_folder (='/photos/{SPAN:x}'): {SPAN:x} is not a known placeholder; expected {SPAN}, or "
        "{YYYY}, {MM} and {DD}, optionally with {VERSION}; {SPAN:3} is a three-digit number"
    )


@pytest.mark.parametrize(
    ("overrides", "rate"), [([], 1e-4), (["training.feature_extraction.learning_rate=0.02"], 2e-3)]
)
def test_the_second_phase_learns_at_a_tenth_of_the_rate_of_the_first(overrides, rate):
    assert load_config(MINIMAL, overrides).training.fine_tuning_rate == pytest.approx(rate)
    given = load_config(MINIMAL, [*overrides, "training.fine_tuning.learning_rate=0.5"])
    assert given.training.fine_tuning_rate == 0.5


def test_the_home_of_somebody_who_is_not_there_is_a_folder_of_that_name():
    config = load_config(MINIMAL, data=["~nobody_of_this_name/photos"])
    assert config.data.sources["image_folder"] == str(Path("~nobody_of_this_name/photos").absolute())
