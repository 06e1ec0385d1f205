"""What the command line writes, and where: files, terminals, pipes to programs, and the shell's completion."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import textwrap
import time
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import cli, data_folders, local, output
from deploy.cli import main
from deploy.display import ConsoleDisplay
from deploy.root import Root
from samples.sample_photos import write_sample_photos
from schemas.json_records import from_json
from schemas.summary import Summary

VERSION = metadata.version("warmstart")
REPOSITORY = Path(__file__).parents[2]
WARMSTART = Path(sys.executable).with_name("warmstart")
ACCURACY = {"value": 1.0, "low": 1.0, "high": 1.0}
MODEL = {
    "examples": 54,
    "accuracy": ACCURACY,
    "loss": {**ACCURACY, "value": 0.157},
    "calibration_error": {**ACCURACY, "value": 0.07},
    "training": None,
}
SUMMARY = {
    "run_id": "2026-11-01T03-00-00Z",
    "data": {"accepted": {"train": 3}, "rejected": {"empty": 1}},
    "window": None,
    "models": {"feature_extraction": MODEL, "fine_tuned": MODEL},
    "winner": "feature_extraction",
    "drift": {"action": "note", "text": "the 20 new photos differ"},
    "further": None,
    "verdict": {
        "text": "no proven gain [of any kind], so the cheaper one wins " + "and wins " * 30,
        "difference": 0.0,
        "interval": [0.0, 0.0],
    },
    "release": {"text": "released", "released": True},
    "servable": None,
    "next_steps": [{"action": "warmstart run photos --set image.size=224", "reason": "12.5% [of 54] are wrong"}],
    "status": "pushed",
    "reason": "feature extraction is in production as version 7",
    "production": {"before": None, "after": "7", "folder": "somewhere"},
    "duration_seconds": 12.5,
}
# A run as the display is told of it, with progress that a terminal shows live; `quiet` and so on are its arguments.
A_RUN = textwrap.dedent(f"""
    import sys, time
    from pathlib import Path
    from deploy import display, local
    from schemas.json_records import from_json
    from schemas.summary import Summary
    display._LINE_EVERY_SECONDS = 0.2
    shown = display.ConsoleDisplay(local.terminal_stream(), *sys.argv[1:])
    shown.heading("{VERSION}", "cats_vs_dogs")
    shown.note("span 3 is not read yet")
    for node, state in (("Read", "complete"), ("Train", "complete"), ("Gate", "stopped"), ("Pusher", "skipped")):
        shown.node_started(node)
        for done in range(4):
            shown.node_progress("photos [read]", done, 4)
            if node == "Train":
                time.sleep(0.15)
        shown.node_ended(node, state, 1.5)
    shown.closing(from_json(Summary, {SUMMARY!r}), Path("reports"))
""")
# How control sequences of a terminal begin, and what goes back to the start of a line.
CONTROL = re.compile(r"\x1b|\r|\x08")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    return {**kept, "TERM": "xterm-256color", **more}


def shown_in_a_file(tmp_path: Path, *arguments: str, **more: str) -> str:
    file = tmp_path / "run.txt"
    with file.open("wb") as stream:
        command = [sys.executable, "-c", A_RUN, *arguments]
        subprocess.run(command, cwd=REPOSITORY, stdout=stream, env=environment(**more), check=True)
    return file.read_bytes().decode()


def shown_on_a_terminal(*arguments: str, **more: str) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", A_RUN, *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=theirs, env=environment(**more)) as process:
        os.close(theirs)
        read = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # Linux says so when nobody has the other end any more
                break
            if not block:
                break
            read += block
    os.close(ours)
    assert process.returncode == 0
    return read.decode()


def test_of_masks_the_screen_has_mean_iou_and_the_iou_of_each_class():
    measured = {"value": 0.734, "low": 0.71, "high": 0.76}
    classes = {"pet": 0.816, "background": 0.9, "border": 0.48}
    of_masks = {
        **MODEL,
        "mean_iou": measured,
        "accuracy": {"value": 0.895, "low": 0.88, "high": 0.91},
        "per_class": {label: {"examples": 54, "iou": {**measured, "value": iou}} for label, iou in classes.items()},
    }
    stream = io.StringIO()
    models = {"feature_extraction": of_masks, "fine_tuned": of_masks}
    ConsoleDisplay(stream).closing(from_json(Summary, {**SUMMARY, "models": models}), Path("reports"))
    text = " ".join(stream.getvalue().split())
    assert "the models on 54 test photos, the mean IoU over 3 classes" in text
    assert "model mean IoU pixel accuracy log loss calibration epoch" in text
    assert "feature extraction 73.4% (71.0 to 76.0) 89.5% (88.0 to 91.0)" in text
    assert "classes IoU of feature extraction: border 48.0%, pet 81.6%, background 90.0%" in text
    stream = io.StringIO()
    told = {**SUMMARY, "models": models, "data": {"ignored_classes": ["[red]rug"]}}
    ConsoleDisplay(stream).closing(from_json(Summary, told), Path("reports"))
    assert "the mean IoU over 3 classes without [red]rug" in " ".join(stream.getvalue().split())


@pytest.mark.parametrize("more", [{}, {"FORCE_COLOR": "1", "COLUMNS": "40", "TTY_COMPATIBLE": "1"}])
def test_a_file_gets_a_line_a_step_and_no_sign_of_control(tmp_path, more):
    text = shown_in_a_file(tmp_path, **more)
    assert CONTROL.findall(text) == []
    lines = text.splitlines()
    steps = [line for line in lines if line.endswith("1.5 s") or "1.5 s  " in line]
    assert [line.split()[:2] for line in steps] == [
        ["Read", "done"],
        ["Train", "done"],
        ["Gate", "stopped"],
        ["Pusher", "skipped"],
    ]
    assert len({line.index("1.5 s") for line in steps}) == 1, "one below the other"
    assert next(line for line in lines if line.split()[:1] == ["Train"]).endswith("of 4 photos [read] ...")
    assert "verdict  " + SUMMARY["verdict"]["text"].rstrip() in [line.rstrip() for line in lines], "no line is broken"
    # What is read last is what to do next.
    assert lines[-2:] == ["next     warmstart run photos --set image.size=224", "         12.5% [of 54] are wrong"]
    assert any("feature extraction" in line and "100.0% (100.0 to 100.0)" in line and "wins" in line for line in lines)


def test_a_terminal_gets_colours_and_progress_in_place():
    text = shown_on_a_terminal()
    assert COLOUR.search(text)
    assert "\r" in text.replace("\r\n", "")
    assert "\x1b[?25h" in text.rpartition("\x1b[?25l")[2], "the cursor is shown again"


def test_no_color_is_heeded_on_a_terminal():
    text = shown_on_a_terminal(NO_COLOR="1")
    assert COLOUR.findall(text) == []
    assert "\r" in text.replace("\r\n", ""), "progress is no colour"
    assert COLOUR.search(shown_on_a_terminal(NO_COLOR="")), "empty is as good as not set"


def test_a_terminal_that_can_nothing_gets_lines():
    text = shown_on_a_terminal(TERM="dumb").replace("\r\n", "\n")
    assert CONTROL.findall(text) == []
    assert "of 4 photos [read] ..." in text, "as a file does"


def test_quiet_shows_how_it_ended_and_nothing_else(tmp_path):
    lines = shown_in_a_file(tmp_path, "quiet").splitlines()
    assert [line.split()[0] for line in lines] == ["status:", "model", "report", "summary"]
    assert CONTROL.findall(shown_on_a_terminal("quiet", NO_COLOR="1").replace("\r\n", "\n")) == []


def test_verbose_shows_no_live_progress_on_a_terminal():
    text = shown_on_a_terminal("verbose", NO_COLOR="1").replace("\r\n", "\n")
    assert CONTROL.findall(text) == []
    assert "span 3 is not read yet" in text


def test_a_start_that_fails_leaves_the_cursor_shown():
    failing = A_RUN.replace("for node, state", 'shown.node_started("starting")\nfor node, state').replace(
        "shown.node_started(node)", "break"
    )
    assert failing.count("break") == 1
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", failing]
    subprocess.run(command, cwd=REPOSITORY, stdout=theirs, env=environment(), check=True, timeout=60)
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b[?25l" in text
    assert "\x1b[?25h" in text.rpartition("\x1b[?25l")[2]


# ---- loudness


@pytest.fixture
def said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    yield lambda *words: CliRunner().invoke(main, list(words))
    output.set_loudness("normal")


def test_quiet_and_verbose_together_are_refused(said):
    result = said("--quiet", "--verbose", "backbone", "list")
    assert result.exit_code == 2
    assert result.output == "error: --quiet and --verbose were both given; expected one of them\n"


def test_the_loudness_is_that_of_this_call(said):
    for words, loudness in (("-q", "quiet"), ("-v", "verbose"), ("--no-such", "verbose"), ("backbone", "normal")):
        said(words, *([] if words == "backbone" else ["backbone"]), "list")
        assert output.loudness() == loudness


def test_verbose_lets_the_libraries_speak(said):
    import logging

    from deploy.output import quiet_libraries

    logger = logging.getLogger("tensorflow")
    before = logger.level
    try:
        logger.setLevel(logging.INFO)
        said("-v", "backbone", "list")
        quiet_libraries()
        assert (os.environ["TF_CPP_MIN_LOG_LEVEL"], logger.level) == ("0", logging.INFO)
        said("backbone", "list")
        quiet_libraries()
        assert (os.environ["TF_CPP_MIN_LOG_LEVEL"], logger.level) == ("3", logging.ERROR)
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize("loudness", ["normal", "verbose"])
def test_a_run_s_log_is_shown_as_it_grows_only_when_verbose(tmp_path, loudness):
    code = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from deploy import local, output
        output.set_loudness(sys.argv[1])
        with local._output_to(Path(sys.argv[2])):
            os.write(2, b"from a library\\n" * 20000)
            print("from Python", flush=True)
        os.write(2, b"afterwards\\n")
    """)
    log = tmp_path / "run.log"
    done = subprocess.run([sys.executable, "-c", code, loudness, str(log)], cwd=REPOSITORY, capture_output=True)
    logged = b"from a library\n" * 20000 + b"from Python\n"
    assert log.read_bytes() == logged
    assert done.stdout == b""
    assert done.stderr == (logged if loudness == "verbose" else b"") + b"afterwards\n"


def test_what_is_printed_in_a_notebook_goes_to_the_log_too(tmp_path):
    """There, Python's streams are objects, which no descriptor stands for."""
    code = textwrap.dedent("""
        import io, logging, sys
        from pathlib import Path
        from deploy import local
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        with local._output_to(Path(sys.argv[1])):
            print("printed")
            logging.warning("logged")
            print("complained", file=sys.stderr)
        print("afterwards")
        found = sys.stdout.getvalue() + sys.stderr.getvalue()
        sys.__stdout__.write(found)
    """)
    log = tmp_path / "run.log"
    done = subprocess.run([sys.executable, "-c", code, str(log)], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("afterwards\n", "")
    assert sorted(log.read_text().splitlines()) == ["WARNING:root:logged", "complained", "printed"]


def test_notes_are_left_out_when_quiet(said):
    write_sample_photos(Path("sample"), photos=24, seed=1)
    words = ["schedule", "--cron", "0 3 * * *", "--config", "cats_vs_dogs", "--data", "sample/cats_vs_dogs", "--print"]
    assert "add this line to your crontab" in said(*words).stderr
    quiet = said("-q", *words)
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    assert quiet.stdout == said(*words).stdout


# ---- for programs


def document_of(result) -> object:
    """Standard output as one JSON document, and nothing else."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_a_program_may_read_is_one_json_document(said):
    write_sample_photos(Path("sample"), photos=24, seed=1)
    Root("runs/cats_vs_dogs").prepare("cats_vs_dogs")
    of_schedule = ["--config", "cats_vs_dogs", "--data", "sample/cats_vs_dogs", "--json"]
    assert set(document_of(said("history", "--json"))) == {"production", "problem", "versions", "runs"}
    assert set(document_of(said("clean", "--json"))) >= {"removed", "dry_run"}
    assert {one["name"] for one in document_of(said("backbone", "list", "--json"))["built_in"]} >= {
        "efficientnet_lite0"
    }
    made = document_of(said("schedule", "--print", "--cron", "0 3 * * *", *of_schedule))
    assert (made["done"], made["cron"], len(made["next"]), made["timer"]) == ("printed", "0 3 * * *", 3, None)
    assert made["crontab"].splitlines()[-1].startswith("0 3 * * * ")
    assert document_of(said("schedule", "--remove", *of_schedule))["done"] == "nothing"


def test_retrain_tells_a_program_what_it_came_to(said):
    write_sample_photos(Path("sample"), photos=24, seed=1)
    root = Root("runs/cats_vs_dogs")
    root.prepare("cats_vs_dogs")
    with root.lock("2026-01-01T00-00-00Z"):
        command = [sys.executable, "-m", "deploy.cli", "retrain", "--config", "cats_vs_dogs"]
        command += ["--data", "sample/cats_vs_dogs", "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
        )
    told = json.loads(done.stdout)
    assert (told["status"], told["exit_code"], told["summary"]) == ("skipped", 0, None)
    assert "another run is active" in told["reason"]
    assert done.stderr == f"warmstart {VERSION}  cats_vs_dogs\n"


def test_an_error_is_no_document(said):
    for words in (["history", "--json"], ["run", "--config", "no", "--json"], ["retrain", "--config", "no", "--json"]):
        result = said(*words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")


@pytest.mark.slow
@pytest.mark.release
def test_a_run_tells_a_program_its_summary(said, tmp_path):
    write_sample_photos(Path("sample"), photos=24, seed=1)
    command = [sys.executable, "-m", "deploy.cli", "run", "--config", "cats_vs_dogs", "--data", "sample/cats_vs_dogs"]
    command += ["--set", "data.max_rejected_fraction=1", "--to", "CuratedSchema", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    told = json.loads(done.stdout)
    assert told == json.loads(Path(f"runs/cats_vs_dogs/reports/{told['run_id']}/summary.json").read_text())
    first, *of_data, starting, step = done.stderr.splitlines()
    assert [line.split()[0] for line in (first, starting, step)] == ["warmstart", "starting", "CuratedSchema"]
    assert of_data[0].endswith("sample/cats_vs_dogs: 33 photos of 2 classes (cat 17, dog 16)")
    assert any("left out: " in line for line in of_data)


# ---- spans


def test_a_run_says_which_newer_span_it_passes_over(tmp_path):
    from pipeline.config import load_config

    for span in (1, 2):
        write_sample_photos(tmp_path / "drawn", photos=24, seed=1)
        (tmp_path / f"span-{span}").mkdir()
        for label in ("cat", "dog"):
            (tmp_path / "drawn" / "cats_vs_dogs" / label).rename(tmp_path / f"span-{span}" / label)
        (tmp_path / "drawn").rename(tmp_path / f"rest-{span}")
    old = time.time() - 3600
    for path in [tmp_path / "span-1", *(tmp_path / "span-1").rglob("*")]:
        os.utime(path, (old, old))
    said: list[str] = []
    config = load_config("cats_vs_dogs", [], [f"{tmp_path}/span-{{SPAN}}"])
    data_folders.check_sources(config, said.append)
    sentence, of_span, *_ = said
    assert of_span.startswith(f"{tmp_path}/span-1: ")
    assert sentence.startswith(f"{tmp_path}/span-2 is not read yet: it changed ")
    (tmp_path / "span-2" / "_SUCCESS").touch()
    said.clear()
    data_folders.check_sources(config, said.append)
    assert said[0].startswith(f"{tmp_path}/span-2: ")
    assert not any("is not read yet" in line for line in said)


def test_a_run_hands_these_sentences_to_its_display(tmp_path, monkeypatch):
    """Refused later on, since the root is a file: the note came before anything slow."""
    from pipeline.config import load_config
    from schemas.errors import BadInput

    write_sample_photos(tmp_path / "drawn", photos=24, seed=1)
    (tmp_path / "drawn" / "cats_vs_dogs").rename(tmp_path / "span-2")
    (tmp_path / "span-2" / "_SUCCESS").touch()
    (tmp_path / "span-3").mkdir()
    (tmp_path / "root").write_text("")
    told = tmp_path / "told.txt"
    config = load_config("cats_vs_dogs", [], [f"{tmp_path}/span-{{SPAN}}"])
    with told.open("w") as stream, pytest.raises(BadInput, match="cannot be written"):
        local.run(config, Root(tmp_path / "root"), ConsoleDisplay(stream))
    assert told.read_text().startswith(f"  {tmp_path}/span-3 is not read yet: it changed ")


# ---- completion


def completed(tmp_path: Path, *words: str) -> list[str]:
    """What bash is offered for the last word."""
    script = tmp_path / "warmstart.bash"
    script.write_text(CliRunner().invoke(main, ["completion", "bash"]).stdout)
    asked = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {script}; COMP_WORDS=(warmstart {asked}); COMP_CWORD={len(words)}; "
        '_warmstart_completion warmstart "${COMP_WORDS[$COMP_CWORD]}"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{WARMSTART.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
    )
    return done.stdout.split()


@pytest.mark.skipif(not WARMSTART.exists(), reason="warmstart is not installed beside this Python")
def test_bash_completes_commands_options_and_configurations(tmp_path):
    assert sorted(completed(tmp_path, "re")) == sorted(name for name in main.commands if name.startswith("re"))
    assert "retrain" in completed(tmp_path, "re")
    assert completed(tmp_path, "rollb") == ["rollback"]
    assert completed(tmp_path, "kubeflow", "schedule", "d") == ["delete"]
    assert completed(tmp_path, "run", "--fo") == ["--force-push"]
    assert completed(tmp_path, "run", "--config", "ox") == ["oxford_iiit_pet", "oxford_iiit_pet_masks"]
    assert completed(tmp_path, "completion", "f") == ["fish"]


def test_bash_is_told_how_to_be_asked():
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    assert script.rstrip().endswith("_warmstart_completion_setup;")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize(("shell", "words"), [("zsh", "#compdef warmstart"), ("fish", "complete --no-files --command")])
def test_the_other_shells_have_scripts_of_their_own(shell, words):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert words in result.stdout
    assert f"_WARMSTART_COMPLETE={shell}_complete" in result.stdout


def test_what_the_terminal_cannot_show_is_escaped(tmp_path):
    command = [str(WARMSTART), "sample", "犬", "--photos", "24"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr[-500:]) == (0, b"")
    assert rb"\u72ac/cats_vs_dogs: 24 photos" in done.stdout


def test_converted_photos_are_counted_by_format(tmp_path):
    data = {"accepted": {"train": 5, "test": 1}, "rejected": {"empty": 1}, "converted": {"TIFF": 1, "WebP": 2}}
    shown = io.StringIO()
    ConsoleDisplay(shown).closing(from_json(Summary, {**SUMMARY, "data": data}), tmp_path)
    assert "6 accepted (5 train, 1 test), 3 converted (1 TIFF, 2 WebP), 1 rejected" in " ".join(
        shown.getvalue().split()
    )


def test_help_imports_nothing_slow():
    code = (
        "import sys\nfrom deploy import cli\ntry: cli.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    slow = ("tensorflow", "tfx", "kfp", "rich", "pydantic", "numpy", "yaml", "matplotlib", "jinja2", "sqlite3")
    assert [name for name in slow if f"'{name}'" in loaded] == []


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 3), (None, 0), ("error: no", 1)])
def test_the_program_ends_without_tearing_tensorflow_down(monkeypatch, capsys, code, expected):
    from deploy import quick_start

    def end(given):
        raise SystemExit(given)

    ended = []
    monkeypatch.setattr(cli, "main", lambda: end(code))
    monkeypatch.setattr(quick_start, "finish", ended.append)
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    cli.start()
    assert ended == [expected]
    assert capsys.readouterr().err == ("error: no\n" if code == "error: no" else "")
    monkeypatch.delitem(sys.modules, "tensorflow")
    with pytest.raises(SystemExit) as raised:
        cli.start()
    assert raised.value.code == code
    assert len(ended) == 1
