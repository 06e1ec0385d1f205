"""Schedules on this machine: what is written, how systemd and cron read it, and that it runs.

systemd is asked itself where it is installed: `systemd-analyze` about times and units, and `systemd --test`, which
reads units, prints what it read and starts nothing. systemctl is a script that remembers its calls.
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deploy import crontab, systemd
from deploy import schedule as schedules
from deploy.cli import main
from deploy.schedule import Schedule
from deploy.timetable import cron_fields, timetable
from pipeline.config import load_config
from schemas.errors import BadInput

VERSION = metadata.version("warmstart")
REPOSITORY = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
NOBODY = 65534
NIGHTLY = "0 3 * * *"

FAKE_SYSTEMCTL = """#!/bin/sh
# Remembers its calls and which timer runs; fails for the verb that is written in `fails`.
here=$(dirname "$0")
echo "$@" >>"$here/calls"
for word in "$@"; do
  case $word in
    --*) ;;
    *) verb=$word; break ;;
  esac
done
if [ "$verb" = "$(cat "$here/fails" 2>/dev/null)" ]; then
  echo "Failed to connect to bus: No medium found" >&2
  exit 1
fi
case $verb in
  restart) touch "$here/runs" ;;
  disable) rm -f "$here/runs" ;;
  is-active | is-enabled) [ -e "$here/runs" ] ;;
esac
"""


class Machine:
    """A machine on which systemd seems to run, with photos on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        self.program = folder / "bin" / "systemctl"
        self.program.parent.mkdir()
        self.program.write_text(FAKE_SYSTEMCTL)
        self.program.chmod(0o755)
        self.units = folder / "config" / "systemd" / "user"
        self.system_units = folder / "system"
        self.photos = folder / "photos"
        self.root = folder / "root"
        (folder / "running").mkdir()
        (folder / "work").mkdir()
        monkeypatch.setenv("PATH", f"{self.program.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        for name in ("WARMSTART_CACHE", "XDG_CACHE_HOME", "SUDO_USER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(systemd, "_RUNNING", folder / "running")
        monkeypatch.setattr(systemd, "_LINGERING", folder / "linger")
        monkeypatch.setitem(systemd._UNITS, "system", self.system_units)
        monkeypatch.chdir(folder / "work")

    def without_systemd(self) -> None:
        self.monkeypatch.setattr(systemd, "_RUNNING", self.folder / "nothing")

    def calls(self) -> list[str]:
        """What systemctl was asked since the last time."""
        file = self.program.with_name("calls")
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [line.replace("--no-ask-password ", "") for line in lines]

    def systemctl_fails_to(self, verb: str) -> None:
        self.program.with_name("fails").write_text(verb)

    def schedule(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["schedule", *arguments])

    def schedule_cats(self, *arguments: str, cron: str = NIGHTLY) -> Result:
        given = ("--config", "cats_vs_dogs", "--data", str(self.photos), "--root", str(self.root))
        return self.schedule("--user", "--cron", cron, *given, *arguments)

    def written(self) -> dict[str, str]:
        """Name -> content of all units."""
        files = [*self.units.glob("*"), *self.system_units.glob("*")]
        return {file.name: file.read_text() for file in files if file.is_file()}


@pytest.fixture
def machine(tmp_path, monkeypatch, drawn_photos) -> Machine:
    made = Machine(tmp_path, monkeypatch)
    for photo in drawn_photos[:4]:
        file = made.photos / photo.label / photo.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(photo.photo_bytes)
    return made


def refusal(result: Result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def made(command: tuple[str, ...], folder: Path = Path("/"), user: str | None = None, cron: str = NIGHTLY) -> Schedule:
    environment = {"HOME": "/home of/100%", "PATH": "/usr/bin:/bin", "X": 'a "b" \\ $HOME %h'}
    when = timetable(cron)
    return Schedule("warmstart-x", when, None, command, folder, Path("/root of"), environment, user)


# --- when: systemd and the timetable agree

ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Asia/Kolkata", "Australia/Lord_Howe")


def texts_of(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """What a field of a cron expression may be, in all its forms."""
    number = st.integers(low, high)
    name = st.one_of(number.map(str), st.sampled_from(names)) if names else number.map(str)
    step = st.integers(1, high + 5)
    limits = st.lists(number, min_size=2, max_size=2).map(sorted)
    part = st.one_of(
        name,
        step.map(lambda every: f"*/{every}"),
        limits.map(lambda two: f"{two[0]}-{two[1]}"),
        # From Sunday, as 7, there is nothing to step to.
        st.tuples(st.integers(low, 6 if high == 7 else high), step).map(lambda two: f"{two[0]}/{two[1]}"),
        st.tuples(limits, step).map(lambda both: f"{both[0][0]}-{both[0][1]}/{both[1]}"),
    )
    return st.one_of(st.just("*"), st.lists(part, min_size=1, max_size=3).map(",".join))


@st.composite
def expressions(draw) -> str:
    """Cron expressions; never with both a day and a weekday, of which cron and systemd make different things."""
    minute, hour = draw(texts_of(0, 59)), draw(texts_of(0, 23))
    month = draw(st.one_of(st.just("*"), texts_of(1, 12, ("jan", "Feb", "DEC"))))
    day, weekday = draw(
        st.one_of(
            st.just(("*", "*")),
            texts_of(1, 31).map(lambda day: (day, "*")),
            texts_of(0, 7, ("sun", "Mon", "SAT")).map(lambda weekday: ("*", weekday)),
        )
    )
    return f"{minute} {hour} {day} {month} {weekday}"


def systemds_times(expressions: list[str], after: datetime, count: int) -> list[list[datetime]]:
    """When systemd would start, for each expression; fewer where no more come. It is asked once for all of them."""
    command = ["systemd-analyze", "calendar", f"--iterations={count}", f"--base-time={after:%Y-%m-%d %H:%M:%S} UTC"]
    done = subprocess.run(
        [*command, *expressions], env={**os.environ, "TZ": "UTC"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (expressions, done.stderr)
    answers = re.split(r"^(?= *Normalized form:)", done.stdout, flags=re.MULTILINE)[1:]
    assert len(answers) == len(expressions)
    return [
        [
            datetime.strptime(time, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
            for time in re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", answer)
        ]
        for answer in answers
    ]


needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs Debian's package systemd")


@needs_analyze
@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.tuples(expressions(), st.sampled_from(ZONES)), min_size=20, max_size=20),
    st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1)),
)
def test_systemd_starts_at_the_times_of_the_timetable(given_ones, moment):
    after = moment.replace(microsecond=0, tzinfo=timezone.utc)
    asked, wanted = [], []
    for cron, zone in given_ones:
        try:
            when = timetable(cron, zone, zone)
        except BadInput as error:
            if "never comes" in str(error):  # 30 February
                continue
            raise
        asked.append(systemd.on_calendar(when, zone))
        wanted.append([time.astimezone(timezone.utc) for time in when.next_times(3, after)])
    assume(asked)
    for expression, found, expected in zip(asked, systemds_times(asked, after, 3), wanted, strict=True):
        assert found == expected, expression


@needs_analyze
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/20 * * * *", "15 0-4 * * sun", "59 23,1 * 3,10,11 *"])
def test_systemd_and_the_timetable_agree_when_clocks_change(cron, zone):
    when = timetable(cron, zone, zone)
    # Berlin, Lord Howe; Havana; Berlin, Havana, Lord Howe.
    for day in (datetime(2027, 3, 28), datetime(2027, 3, 14), datetime(2026, 11, 1), datetime(2026, 10, 25)):
        after = (day - timedelta(hours=14)).replace(tzinfo=timezone.utc)
        wanted = [time.astimezone(timezone.utc) for time in when.next_times(60, after)]
        assert systemds_times([systemd.on_calendar(when, zone)], after, 60) == [wanted]


@needs_analyze
def test_systemd_would_tell_a_wrong_conversion():
    when = timetable("0 3 * * 1")
    after = datetime(2027, 1, 1, tzinfo=timezone.utc)
    right, wrong = systemds_times(["Mon *-*-* 03:00:00 UTC", "Tue *-*-* 03:00:00 UTC"], after, 3)
    assert right == when.next_times(3, after)
    assert wrong != when.next_times(3, after)


@pytest.mark.parametrize(
    ("cron", "zone", "written"),
    [
        (NIGHTLY, None, "*-*-* 03:00:00"),
        (NIGHTLY, "Europe/Berlin", "*-*-* 03:00:00 Europe/Berlin"),
        ("*/15 * * * *", None, "*-*-* *:00,15,30,45:00"),
        ("0 3 * * mon-fri", None, "Mon..Fri *-*-* 03:00:00"),
        ("0 3 * * 0,1,7", None, "Mon,Sun *-*-* 03:00:00"),
        ("0 3 * * 5-7", None, "Fri..Sun *-*-* 03:00:00"),
        ("5/20 8-18/5 1-7 jan,dec *", None, "*-01,12-01..07 08,13,18:05,25,45:00"),
        ("0-59 0-23 * 1-12 0-6", None, "*-*-* *:*:00"),
    ],
)
def test_a_cron_expression_in_the_words_of_systemd(cron, zone, written):
    assert systemd.on_calendar(timetable(cron, zone or "UTC", zone or "UTC"), zone) == written


@given(expressions())
def test_the_fields_for_a_crontab_mean_the_same_and_need_no_clever_cron(cron):
    try:
        when = timetable(cron)
    except BadInput as error:
        assume("never comes" not in str(error))
        raise
    written = crontab.crontab_fields(when, None)
    assert [values for _, values in cron_fields(written)] == [values for _, values in cron_fields(cron)]
    # Debian's cron refuses `5/15`; names and ranges of names are read by some.
    assert re.fullmatch(r"[0-9*,\- ]+", written)


@pytest.mark.parametrize(
    ("cron", "zone", "machines", "written"),
    [
        ("30 9 * * 1", "Asia/Kolkata", "UTC", "0 4 * * 1"),
        ("30 4 * * 1", "Asia/Kolkata", "Etc/UTC", "0 23 * * 0"),
        ("0 3 * * 5-7", "Europe/Berlin", "Europe/Paris", "0 3 * * 0,5-6"),
        (NIGHTLY, "Europe/Berlin", "Europe/Berlin", NIGHTLY),
    ],
)
def test_a_time_in_another_zone_is_shifted_for_cron_where_that_is_exact(monkeypatch, cron, zone, machines, written):
    monkeypatch.setattr(crontab, "machine_zone", lambda: machines)
    assert crontab.crontab_fields(timetable(cron, zone, zone), zone) == written


def test_a_time_in_another_zone_is_refused_for_cron_where_it_is_not(monkeypatch):
    monkeypatch.setattr(crontab, "machine_zone", lambda: "UTC")
    with pytest.raises(BadInput, match=r"cron uses the machine's time zone, UTC, .* '0 3 \* \* \*' in Europe/Be"):
        crontab.crontab_fields(timetable(NIGHTLY, "Europe/Berlin", "Europe/Berlin"), "Europe/Berlin")


def test_the_zone_of_the_machine_is_read_as_systemd_reads_it(tmp_path, monkeypatch):
    local, name = tmp_path / "localtime", tmp_path / "timezone"
    monkeypatch.setattr(schedules, "_LOCAL_TIME", local)
    monkeypatch.setattr(schedules, "_TIME_ZONE_NAME", name)
    monkeypatch.setenv("TZ", "Asia/Tokyo")  # a shell's, of which no timer knows
    assert schedules.machine_zone() == "UTC"
    zone = tmp_path / "zoneinfo" / "Europe" / "Berlin"
    zone.parent.mkdir(parents=True)
    zone.write_bytes(b"TZif")
    local.symlink_to(zone)
    assert schedules.machine_zone() == "Europe/Berlin"
    local.unlink()
    local.write_bytes(b"TZif")
    with pytest.raises(BadInput, match="does not say which time zone the machine is in; name it with --time-zone"):
        schedules.machine_zone()
    name.write_text("America/Havana\n")
    assert schedules.machine_zone() == "America/Havana"


# --- how systemd reads the units

HOSTILE = [
    "",
    " ",
    ";",
    "a b",
    "50%",
    "%h %%",
    "$HOME",
    "${HOME}",
    "$$",
    "back\\slash",
    "\\",
    "\\\\",
    "\\%",
    "\\n",
    'quo"te',
    "it's",
    "`id`",
    "$(id)",
    "#x",
    "!x",
    "~",
    "*",
    "a\u00a0b",
    "Kätzchen 猫",
    "span-{SPAN}",
    "-x",
    "@x",
    ":x",
    "key=[1, 'a b', \"c\"]",
    "&& reboot",
    "x\\",
]


def hostile_words(count: int) -> list[str]:
    """The same in every run."""
    rng = random.Random(5)
    return ["".join(rng.choices("\\\"'%$;` #{}~ab=,\u00e9", k=rng.randint(1, 8))) for _ in range(count)]


@pytest.fixture(scope="module")
def systemd_reads() -> Iterator:
    """A function: a service's text -> the words of its command line, its environment and its working directory."""
    if not SYSTEMD.exists():
        pytest.skip("needs Debian's package systemd")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    units, runtime = folder / "units", folder / "runtime"
    for below in (units, runtime):
        below.mkdir()
    runtime.chmod(0o700)
    # It refuses to be tested by root.
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    if as_nobody:
        os.chown(runtime, NOBODY, NOBODY)

    def read(text: str) -> tuple[list[str], list[str], str]:
        file = units / "read.service"
        file.write_text(text, encoding="utf-8")
        environment = {"HOME": str(runtime), "XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_UNIT_PATH": f"{units}:"}
        done = subprocess.run(
            [SYSTEMD, "--test", "--user", "--unit=read.service", "--no-pager"],
            env={**environment, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            **as_nobody,
        )
        printed = done.stdout.decode()
        if "-> Unit read.service" not in printed:
            pytest.skip(f"systemd --test does not work here: {done.stderr.decode()[-300:]}")
        dump = re.split(r"(?m)^\t-> Unit ", printed)
        [unit] = [part for part in dump if part.startswith("read.service:")]
        assert not re.search("(?m)^read.service:|Unknown|Invalid", done.stderr.decode()), done.stderr.decode()
        [line] = re.findall(r"(?m)^\t+Command Line: (.*)$", unit)
        # It prints words in double quotes where they need any.
        words = [
            re.sub(r"\\(.)", r"\1", quoted) if quoted or not bare else bare
            for quoted, bare in re.findall(r'"((?:[^"\\]|\\.)*)"|([^ "]+)', line)
        ]
        [where] = re.findall(r"(?m)^\t+WorkingDirectory: (.*)$", unit)
        return words, re.findall(r"(?m)^\t+Environment: (.*)$", unit), where

    yield read
    shutil.rmtree(folder)


def test_systemd_reads_every_word_as_it_was_given(systemd_reads, tmp_path):
    words = ("/usr/bin/env", *HOSTILE, *hostile_words(300))
    schedule = made(words, Path('/var/50% of "it\'s" $HOME \\ %h'))
    text = systemd.unit_files(schedule)["warmstart-x.service"]
    command, environment, where = systemd_reads(text)
    assert tuple(command) == words
    assert "\nExecStart=:/usr/bin/env " in text  # it prints $HOME with and without the colon, which keeps it as it is
    assert environment == [f"{name}={value}" for name, value in schedule.environment.items()]
    assert where == str(schedule.folder)


def test_systemd_reads_words_without_a_dollar_as_older_versions_do(systemd_reads):
    words = ("/usr/bin/env", *[word for word in HOSTILE if "$" not in word])
    text = systemd.unit_files(made(words))["warmstart-x.service"]
    assert "ExecStart=/usr/bin/env " in text  # and not `:/usr/bin/env`, which needs version 244
    assert tuple(systemd_reads(text)[0]) == words


def test_a_word_without_quotes_would_be_read_otherwise(systemd_reads):
    text = systemd.unit_files(made(("/usr/bin/env", "x")))["warmstart-x.service"]
    assert systemd_reads(text.replace("env x", "env a b 50%% ${X}"))[0] == ["/usr/bin/env", "a", "b", "50%", "${X}"]


def verify(folder: Path, scope: str) -> str:
    """What systemd has to say against the units of a folder."""
    units = [str(file) for file in sorted(folder.glob("warmstart-*"))]
    assert len(units) == 2
    with tempfile.TemporaryDirectory() as runtime:
        done = subprocess.run(
            ["systemd-analyze", "verify", f"--{scope}", "--man=no", *units],
            env={**os.environ, "XDG_RUNTIME_DIR": runtime},
            capture_output=True,
            text=True,
            check=False,
        )
    # It looks at what a unit depends on, too.
    said = [line for line in done.stderr.splitlines() if re.search(r"warmstart-\S+\.(service|timer)", line)]
    return "\n".join(said) + (f"exit code {done.returncode}" if done.returncode else "")


@needs_analyze
@pytest.mark.parametrize("scope", ["user", "system"])
def test_systemd_has_nothing_against_the_units(machine, scope):
    result = machine.schedule_cats(f"--{scope}", "--set", "backbone.handle=efficientnet_lite0")
    assert result.exit_code == 0, result.output
    folder = machine.units if scope == "user" else machine.system_units
    assert verify(folder, scope) == ""
    service = folder / "warmstart-cats_vs_dogs.service"
    service.write_text(service.read_text().replace("Nice=10", "Nise=10"))
    assert "Nise" in verify(folder, scope)


# --- how cron reads the line


def after_debians_cron(command: str) -> str:
    """The command as the shell gets it: cron ends it at a bare `%`, and takes the backslash off an escaped one."""
    assert not re.search(r"(?<!\\)%", command)
    return command.replace("\\%", "%")


def after_cronie(command: str) -> str:
    """As Debian's; and of two backslashes one is left."""
    assert not re.search(r"(?<!\\)%", command)
    return re.sub(r"\\([%\\])", r"\1", command)


def after_an_old_cron(command: str) -> str:
    """Backslashes are the shell's business."""
    assert not re.search(r"(?<!\\)%", command)
    return command


RECORDER = """
import json, os, sys
told = {"argv": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(), "nice": os.nice(0)}
open(__file__ + ".json", "w", encoding="utf-8").write(json.dumps(told))
print("out", flush=True); print("err", file=sys.stderr)
"""


@pytest.mark.parametrize("read", [after_debians_cron, after_cronie, after_an_old_cron])
def test_cron_and_shell_give_the_program_every_word_as_it_was_given(tmp_path, read):
    folder, root = tmp_path / '50% of "it\'s" $HOME \\\\ \\', tmp_path / "root 100% \\% '"
    folder.mkdir()
    recorder = folder / "recorder.py"
    recorder.write_text(RECORDER)
    words = [*HOSTILE, *hostile_words(300)]
    environment = {"HOME": "/h 1%", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "X": 'a "b" \\\\ $HOME %h'}
    command = (sys.executable, str(recorder), *words)
    schedule = Schedule("warmstart-x", timetable(NIGHTLY), None, command, folder, root, environment, None)
    comment, line = crontab.crontab(schedule).splitlines()
    assert comment.startswith("# warmstart-x")
    assert line.startswith(f"{NIGHTLY} ")
    for _ in range(2):
        done = subprocess.run(
            ["/bin/sh", "-c", read(line.removeprefix(f"{NIGHTLY} "))],
            cwd="/",
            env={"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "FROM_CRON": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    told = json.loads(recorder.with_name("recorder.py.json").read_text(encoding="utf-8"))
    assert told["argv"] == words
    assert told["environment"] == environment
    assert told["folder"] == str(folder)
    assert told["nice"] >= 10
    assert (root / schedules.LOG_FILE).read_text() == "out\nerr\n" * 2


# --- what runs


def test_the_unit_calls_retrain_with_the_same_options_and_whole_paths(machine, systemd_reads):
    shutil.copytree(machine.photos, machine.folder / "work" / "photos 100%")
    shutil.copy(REPOSITORY / "pipeline" / "configs" / "cats_vs_dogs.yaml", "mine.yaml")
    given = ["--config", "mine.yaml", "--data", "photos 100%", "--root", "here", "--set", "image.size=96"]
    result = machine.schedule("--user", "--cron", NIGHTLY, *given, "--set", 'data.tfds_dir="$HOME/a b"')
    assert result.exit_code == 0, result.output
    command, environment, where = systemd_reads(machine.written()["warmstart-cats_vs_dogs.service"])
    work = machine.folder / "work"
    retrain = command.index("retrain")
    assert command[retrain + 1 :] == [
        *("--config", f"{work}/mine.yaml"),
        *("--data", f"cats_vs_dogs={work}/photos 100%"),
        *("--root", f"{work}/here"),
        *("--set", "image.size=96"),
        *("--set", 'data.tfds_dir="$HOME/a b"'),
    ]
    options = main.commands["retrain"].make_context("retrain", command[retrain + 1 :]).params
    assert load_config(options["config_name"], list(options["overrides"]), list(options["data"])).image.size == 96
    assert where == str(work)
    assert [line.partition("=")[0] for line in environment] == [
        *("HOME", "USER", "LOGNAME", "PATH", "LC_ALL", "PYTHONUNBUFFERED")
    ]
    # The program is this one, from any folder, with nothing but that environment.
    done = subprocess.run(
        [*command[:retrain], "--version"],
        env=dict(line.split("=", 1) for line in environment),
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == VERSION


def test_several_data_sets_and_a_known_configuration_keep_their_names(machine):
    given = ["--config", "species", "--data", f"cats_vs_dogs={machine.photos}", "--data"]
    given += [f"oxford_iiit_pet={machine.photos}", "--print", "--cron", NIGHTLY, "--user"]
    line = machine.schedule(*given, "--set", "evaluation.minimum_slice_examples=3")
    assert line.exit_code == 2  # these are no photos of Oxford's
    made = schedules.make_schedule(
        NIGHTLY,
        "UTC",
        load_config("species", data=[f"cats_vs_dogs={machine.photos}", "oxford_iiit_pet=pets"]),
        "species",
        [f"cats_vs_dogs={machine.photos}", "oxford_iiit_pet=pets"],
        machine.root,
        [],
        None,
        "user",
    )
    options = made.command[made.command.index("retrain") :]
    assert options[1:] == (
        *("--config", "species", "--data", f"cats_vs_dogs={machine.photos}"),
        *("--data", f"oxford_iiit_pet={Path('pets').absolute()}", "--root", str(machine.root)),
    )


def test_a_source_tree_that_was_not_installed_is_run_as_a_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(schedules.sysconfig, "get_path", lambda _: str(tmp_path))
    assert schedules._program() == (str(tmp_path / "python"), "-m", "deploy.cli")
    script = tmp_path / "warmstart"
    script.write_text("")
    assert schedules._program() == (str(tmp_path / "python"), str(script))


def test_the_script_that_was_called_is_the_one_that_runs(tmp_path, monkeypatch):
    script = tmp_path / "bin" / "warmstart"
    script.parent.mkdir()
    script.write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/warmstart", "schedule"])
    assert schedules._program() == (sys.executable, str(script))


def test_a_service_of_the_system_runs_as_the_person_who_called_sudo(machine, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "nobody")
    home = pwd.getpwnam("nobody").pw_dir
    assert machine.schedule_cats("--system").exit_code == 0
    service = machine.written()["warmstart-cats_vs_dogs.service"]
    assert "\nUser=nobody\n" in service
    assert f"Environment=HOME={home}\n" in service
    assert [call for call in machine.calls() if "--user" in call] == []


def test_a_service_of_ones_own_names_no_user(machine):
    assert machine.schedule_cats().exit_code == 0
    assert "User=" not in machine.written()["warmstart-cats_vs_dogs.service"]


def test_the_cache_of_backbones_is_the_one_in_use_now(machine, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "elsewhere")
    assert machine.schedule_cats().exit_code == 0
    cache = machine.folder / "work" / "elsewhere" / "warmstart"
    assert f"Environment=WARMSTART_CACHE={cache}\n" in machine.written()["warmstart-cats_vs_dogs.service"]


def test_an_ended_run_without_a_push_is_no_failed_unit_and_a_missed_night_is_made_up_for(machine):
    assert machine.schedule_cats().exit_code == 0
    units = machine.written()
    service = units["warmstart-cats_vs_dogs.service"].splitlines()
    assert {"Type=oneshot", "SuccessExitStatus=3", "TimeoutStartSec=infinity", "KillSignal=SIGINT"} <= set(service)
    assert "Persistent=true" in units["warmstart-cats_vs_dogs.timer"].splitlines()


# --- writing, twice, and taking away

CALLS = ["--user daemon-reload", "--user enable {}", "--user restart {}"]
CREATING = [call.format("warmstart-cats_vs_dogs.timer") for call in CALLS]
ASKING = [f"--user {verb} warmstart-cats_vs_dogs.timer" for verb in ("is-enabled", "is-active")]


def test_a_timer_is_written_and_started(machine):
    result = machine.schedule_cats()
    assert result.exit_code == 0, result.output
    assert machine.written().keys() == {"warmstart-cats_vs_dogs.service", "warmstart-cats_vs_dogs.timer"}
    assert machine.calls() == CREATING
    first, zone, *times, run_now, log = result.stdout.splitlines()
    assert first == f"schedule warmstart-cats_vs_dogs: created; {machine.units}/warmstart-cats_vs_dogs.timer"
    assert zone == f"  {NIGHTLY} in {schedules.machine_zone()}"
    assert len(times) == 3
    assert all(" 03:00 " in time for time in times)
    assert run_now.endswith("systemctl --user start warmstart-cats_vs_dogs.service")
    assert log.endswith("journalctl --user -u warmstart-cats_vs_dogs.service")
    assert "loginctl enable-linger" in result.stderr


def test_who_lingers_is_not_told_to(machine, monkeypatch):
    account = schedules.account("user")
    assert account is not None
    (machine.folder / "linger").mkdir()
    (machine.folder / "linger" / account.pw_name).touch()
    assert machine.schedule_cats().stderr == ""


def test_written_twice_nothing_changes(machine):
    machine.schedule_cats()
    machine.calls()
    before = {file: file.stat().st_mtime_ns for file in machine.units.iterdir()}
    result = machine.schedule_cats()
    assert result.exit_code == 0
    assert result.stdout.startswith("schedule warmstart-cats_vs_dogs: already there, nothing changed;")
    assert machine.calls() == ASKING
    assert {file: file.stat().st_mtime_ns for file in machine.units.iterdir()} == before


def test_a_timer_that_somebody_stopped_is_started_again(machine):
    machine.schedule_cats()
    machine.program.with_name("runs").unlink()
    machine.calls()
    assert machine.schedule_cats().stdout.startswith("schedule warmstart-cats_vs_dogs: started again;")
    assert machine.calls() == [ASKING[0], *CREATING]


def test_other_options_replace_the_schedule(machine):
    machine.schedule_cats()
    machine.calls()
    result = machine.schedule_cats("--set", "image.size=96", cron="0 4 * * *")
    assert result.stdout.startswith("schedule warmstart-cats_vs_dogs: replaced;")
    units = machine.written()
    assert len(units) == 2
    assert "OnCalendar=*-*-* 04:00:00\n" in units["warmstart-cats_vs_dogs.timer"]
    assert "--set image.size=96\n" in units["warmstart-cats_vs_dogs.service"]
    assert machine.calls() == CREATING


def test_a_schedule_of_another_root_is_not_replaced(machine):
    machine.schedule_cats()
    before = machine.written()
    sentence = refusal(machine.schedule_cats("--root", "other"))
    assert "there is a schedule warmstart-cats_vs_dogs for another root" in sentence
    assert "--name" in sentence
    assert machine.written() == before
    assert machine.schedule_cats("--root", "other", "--name", "other one/2").exit_code == 0
    assert "warmstart-other-one-2.timer" in machine.written()


def test_a_unit_of_somebody_else_stays(machine):
    machine.units.mkdir(parents=True)
    timer = machine.units / "warmstart-cats_vs_dogs.timer"
    timer.write_text("[Timer]\nOnCalendar=daily\n")
    for result in (machine.schedule_cats(), machine.schedule("--user", "--config", "cats_vs_dogs", "--remove")):
        assert "was not written by `warmstart schedule` and is left alone" in refusal(result)
    assert machine.written() == {timer.name: "[Timer]\nOnCalendar=daily\n"}
    assert machine.calls() == []


def test_a_removed_schedule_is_gone_and_removing_it_twice_is_fine(machine):
    machine.schedule_cats()
    machine.calls()
    result = machine.schedule("--user", "--config", "cats_vs_dogs", "--remove")
    assert (result.exit_code, result.stdout) == (0, "schedule warmstart-cats_vs_dogs: removed\n")
    assert machine.written() == {}
    assert machine.calls() == [
        "--user disable --now warmstart-cats_vs_dogs.timer",
        "--user clean --what=state warmstart-cats_vs_dogs.timer",
        "--user daemon-reload",
        "--user reset-failed warmstart-cats_vs_dogs.service",
    ]
    result = machine.schedule("--user", "--config", "cats_vs_dogs", "--remove")
    assert result.exit_code == 0
    assert result.stdout.startswith("there is no schedule warmstart-cats_vs_dogs in ")
    assert machine.calls() == []


def test_an_older_systemd_that_cannot_clean_removes_all_the_same(machine):
    machine.schedule_cats()
    machine.systemctl_fails_to("clean")
    assert machine.schedule("--user", "--name", "cats_vs_dogs", "--remove").exit_code == 0
    assert machine.written() == {}


def test_a_schedule_is_removed_by_the_name_that_is_shown_for_it(machine):
    machine.schedule_cats("--name", "every night")
    assert machine.schedule("--user", "--name", "warmstart-every-night", "--remove").exit_code == 0
    assert machine.written() == {}


def test_units_are_removed_also_where_systemd_no_longer_runs(machine):
    machine.schedule_cats()
    machine.calls()
    wanted = machine.units / "timers.target.wants" / "warmstart-cats_vs_dogs.timer"
    wanted.parent.mkdir()
    wanted.symlink_to(machine.units / wanted.name)
    machine.without_systemd()
    result = machine.schedule("--user", "--config", "cats_vs_dogs", "--remove")
    assert result.exit_code == 0
    assert (machine.written(), wanted.is_symlink(), machine.calls()) == ({}, False, [])
    assert "crontab -e" in result.stderr


# --- where it cannot be


@pytest.mark.parametrize("verb", ["daemon-reload", "enable", "restart"])
def test_when_systemctl_fails_what_was_there_before_is_there_again(machine, verb):
    machine.systemctl_fails_to(verb)
    sentence = refusal(machine.schedule_cats())
    assert f"`systemctl --user {verb}" in sentence
    assert "failed (Failed to connect to bus: No medium found); nothing was changed, and --print" in sentence
    assert machine.written() == {}
    machine.systemctl_fails_to("")
    machine.schedule_cats()
    before = machine.written()
    machine.systemctl_fails_to(verb)
    refusal(machine.schedule_cats(cron="0 4 * * *"))
    assert machine.written() == before


def test_when_systemctl_cannot_stop_the_timer_it_stays_whole(machine):
    machine.schedule_cats()
    before = machine.written()
    machine.systemctl_fails_to("disable")
    assert "disable --now" in refusal(machine.schedule("--user", "--config", "cats_vs_dogs", "--remove"))
    assert machine.written() == before


def test_without_systemctl_there_is_a_sentence(machine, monkeypatch):
    monkeypatch.setenv("PATH", str(machine.folder))
    assert refusal(machine.schedule_cats()).startswith("systemctl is not on the PATH; nothing was changed")
    assert machine.written() == {}


def test_a_folder_of_units_that_cannot_be_written_is_a_sentence(machine, monkeypatch):
    # Nobody, and not root either, can write there.
    monkeypatch.setitem(systemd._UNITS, "system", Path("/sys/kernel/warmstart"))
    sentence = refusal(machine.schedule_cats("--system"))
    assert re.match(r"/sys/kernel/warmstart cannot be written \(.+\); run this with sudo, or use --user$", sentence)
    assert machine.calls() == []


@pytest.mark.parametrize("asked", [True, False])
def test_a_line_for_a_crontab_stands_alone_on_standard_output(machine, asked):
    if not asked:
        machine.without_systemd()
    result = machine.schedule_cats(*(["--print"] if asked else []))
    assert result.exit_code == 0, result.output
    comment, line = result.stdout.splitlines()
    assert comment.startswith("#")
    assert re.match(r"0 3 \* \* \* mkdir -p \S+ && cd \S+ && exec /usr/bin/env -i HOME=", line)
    assert line.endswith(f"--root {machine.root} >>{machine.root}/schedule.log 2>&1")
    assert ("systemd does not run here" in result.stderr) != asked
    assert result.stderr.count("  next ") == 3
    assert (machine.written(), machine.calls(), machine.root.exists()) == ({}, [], False)


def test_a_line_that_is_too_long_for_debians_cron_is_told_of(machine):
    assert "Debian's cron" not in machine.schedule_cats("--print").stderr
    result = machine.schedule_cats("--print", "--set", f"data.tfds_dir=/{'x' * 900}")
    assert result.exit_code == 0
    assert "note: the line is too long for Debian's cron" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cron", "0 3 * *"], "the cron expression '0 3 * *' has 4 fields; expected five"),
        (["--cron", "61 3 * * *"], "minute '61' is not within 0 to 59"),
        (["--cron", "0 3 1 * 1"], "limits both the day of the month and the day of the week"),
        (["--cron", "0 3 30 2 *"], "names a day that never comes"),
        (["--time-zone", "Middle/Earth"], "there is no time zone 'Middle/Earth'"),
        (["--config", "cats_and_dogs"], "unknown configuration 'cats_and_dogs'; did you mean 'cats_vs_dogs'?"),
        (["--config", "absent.yaml"], "configuration file absent.yaml does not exist"),
        (["--data", "a", "--data", "b"], "cats_vs_dogs already has a folder"),
        (["--set", "image.size=big"], "image.size (='big')"),
        (["--name", "//"], "--name '//' cannot name a schedule"),
        (["--name", "x" * 300], "cannot name a schedule"),
        (["--set", "data.tfds_dir=a\nb"], "contains a line break"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_and_nothing_is_written(machine, arguments, says):
    base = {"--cron": NIGHTLY, "--config": "cats_vs_dogs", "--data": str(machine.photos)}
    for option in itertools.islice(arguments, 0, None, 2):
        base.pop(option, None)
    given = [word for pair in base.items() for word in pair]
    result = machine.schedule("--user", *given, *arguments)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert result.stderr.startswith("error: ")
    assert (machine.written(), machine.calls()) == ({}, [])


def test_photos_that_are_not_there_are_told_of(machine):
    given = ["--user", "--cron", NIGHTLY, "--config", "cats_vs_dogs", "--data"]
    assert "nowhere does not exist" in refusal(machine.schedule(*given, "nowhere"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config", "cats_vs_dogs"], "--cron is missing"),
        (["--cron", NIGHTLY], "--config is missing"),
        (["--remove"], "give --name or --config"),
        (["--remove", "--config", "cats_and_dogs"], "unknown configuration 'cats_and_dogs'"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(machine, arguments, says):
    assert says in refusal(machine.schedule(*arguments))


@pytest.mark.parametrize("name", ["ends in a backslash\\", "ends in a blank "])
def test_a_working_directory_that_systemd_cannot_be_told_is_refused(machine, monkeypatch, name):
    folder = machine.folder / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert "ends with a space or a backslash; run this from another one" in refusal(machine.schedule_cats())


def test_an_interpreter_that_systemd_refuses_is_refused(machine, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/it's/python")
    assert "the path of the interpreter, /it's/python, contains a quote or a backslash" in refusal(
        machine.schedule_cats()
    )


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("cats_vs_dogs", "warmstart-cats_vs_dogs"),
        ("every night/2", "warmstart-every-night-2"),
        ("../../etc/x", "warmstart-etc-x"),
        ("a%b@c.d", "warmstart-a-b-c.d"),
        ("-x", "warmstart-x"),
        ("Kätzchen", "warmstart-K-tzchen"),
    ],
)
def test_a_name_becomes_one_that_systemd_takes(name, unit):
    assert schedules.unit_name(name) == unit
