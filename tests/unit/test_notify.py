"""The notifier: what it is told, and that nothing it does stops anything else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from deploy.notify import notify
from pipeline.config import NotifyConfig

SUMMARY = {"status": "not_pushed", "run_id": "2026-11-22T03-00-00Z", "reason": "it loses 3 points", "models": None}


def told(tmp_path: Path, script: str, **options) -> str | None:
    command = ["sh", "-c", script, "notifier", str(tmp_path)]
    return notify(NotifyConfig(command=command, **options), SUMMARY, tmp_path)


def test_the_program_gets_the_summary_and_the_words_for_a_message(tmp_path):
    script = 'cat > "$1/given"; printf "%s|%s|%s|%s" "$WARMSTART_STATUS" "$WARMSTART_RUN" "$WARMSTART_REASON" '
    assert told(tmp_path, script + '"$WARMSTART_SUMMARY" > "$1/words"') is None
    assert json.loads((tmp_path / "given").read_text()) == SUMMARY
    words = (tmp_path / "words").read_text().split("|")
    assert words == ["not_pushed", SUMMARY["run_id"], SUMMARY["reason"], str(tmp_path / "summary.json")]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no such list >&2; exit 3", "ended with exit code 3: no such list"),
        ("kill -9 $$", "was killed by signal 9"),
        ("yes 1234567890 | head -c 1000000; exit 1", "ended with exit code 1"),
    ],
)
def test_a_program_that_fails_is_a_sentence_and_no_error(tmp_path, script, said):
    sentence = told(tmp_path, script)
    assert sentence is not None
    assert sentence.startswith("nobody was notified: notify.command sh")
    assert said in sentence


def test_a_program_that_does_not_read_is_no_failure(tmp_path):
    assert told(tmp_path, "exec 0<&-; exit 0") is None


def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path):
    began = time.monotonic()
    sentence = told(tmp_path, 'sh -c "echo \\$\\$ > $1/child; sleep 60" & wait', timeout_seconds=1)
    assert time.monotonic() - began < 30
    assert sentence is not None
    assert "did not end within 1 s and was killed" in sentence
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("what the notifier started is still there")


def test_a_program_that_prints_without_end_is_killed_and_little_of_it_is_kept(tmp_path):
    sentence = told(tmp_path, "exec yes 0123456789", timeout_seconds=0.5)
    assert sentence is not None
    assert "did not end within 0.5 s and was killed: " in sentence
    assert len(sentence) < 600


def test_a_program_that_closes_its_output_and_hangs_is_killed(tmp_path):
    sentence = told(tmp_path, "exec >&- 2>&-; sleep 60", timeout_seconds=0.5)
    assert sentence is not None
    assert sentence.endswith("did not end within 0.5 s and was killed")


def test_what_a_program_leaves_behind_is_neither_waited_for_nor_killed(tmp_path):
    # It holds the output open, until the test says so.
    left = """(for i in $(seq 400); do
      [ ! -e "$1/go" ] || { touch "$1/went"; exit; }
      sleep 0.05
    done; touch "$1/gave_up") &"""
    assert told(tmp_path, f"echo sent; {left}") is None
    (tmp_path / "go").touch()
    for _ in range(400):
        if (tmp_path / "went").exists():
            return
        time.sleep(0.05)
    pytest.fail("the notifier was waited for" if (tmp_path / "gave_up").exists() else "what it left was killed")


@pytest.mark.parametrize("script", ["exec 0<&-; sleep 0.2", "head -c 1 >/dev/null", "true"])
def test_a_summary_larger_than_a_pipe_need_not_be_read(tmp_path, script):
    summary = {**SUMMARY, "photos": ["x" * 100] * 10_000}
    command = ["sh", "-c", script]
    assert notify(NotifyConfig(command=command, timeout_seconds=10), summary, tmp_path) is None
    command = ["sh", "-c", f"cat >{tmp_path}/given"]
    assert notify(NotifyConfig(command=command, timeout_seconds=10), summary, tmp_path) is None
    assert json.loads((tmp_path / "given").read_text()) == summary


@pytest.mark.parametrize("reason", ["a\0b", "\ud800 lone", "x" * 300_000, 'quo"te $HOME `id`\nline', "猫"])
def test_a_reason_of_any_kind_is_told(tmp_path, reason):
    command = ["sh", "-c", f'printf %s "$WARMSTART_REASON" >{tmp_path}/reason']
    assert notify(NotifyConfig(command=command), {**SUMMARY, "reason": reason}, tmp_path) is None
    given = (tmp_path / "reason").read_text()
    assert given
    assert given[:100] == reason.replace("\0", " ").replace("\ud800", "?")[:100]


@pytest.mark.parametrize("command", [["a\0b"], ["sh", "a\0b"], ["/"], ["/dev/null"]])
def test_a_command_that_no_system_can_run_is_a_sentence(tmp_path, command):
    sentence = notify(NotifyConfig(command=command), SUMMARY, tmp_path)
    assert sentence is not None
    assert "cannot be run (" in sentence
    assert "\n" not in sentence


def test_a_run_that_did_not_begin_has_no_name(tmp_path):
    command = ["sh", "-c", f'printf "%s|%s" "$WARMSTART_STATUS" "$WARMSTART_RUN" >{tmp_path}/words']
    section = NotifyConfig(command=command, when=["skipped"])
    assert notify(section, {"status": "skipped", "reason": "nothing is new"}, tmp_path) is None
    assert (tmp_path / "words").read_text() == "skipped|"


def test_a_program_that_is_not_there_is_a_sentence(tmp_path):
    sentence = notify(NotifyConfig(command=[str(tmp_path / "absent")]), SUMMARY, tmp_path)
    assert sentence is not None
    assert "cannot be run" in sentence


def test_nobody_is_told_of_what_nobody_wants_to_hear_of(tmp_path):
    assert told(tmp_path, 'touch "$1/called"', when=["pushed"]) is None
    assert notify(NotifyConfig(), SUMMARY, tmp_path) is None
    assert not (tmp_path / "called").exists()
