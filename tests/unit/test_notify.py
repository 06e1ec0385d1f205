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


def test_a_program_that_is_not_there_is_a_sentence(tmp_path):
    sentence = notify(NotifyConfig(command=[str(tmp_path / "absent")]), SUMMARY, tmp_path)
    assert sentence is not None
    assert "cannot be run" in sentence


def test_nobody_is_told_of_what_nobody_wants_to_hear_of(tmp_path):
    assert told(tmp_path, 'touch "$1/called"', when=["pushed"]) is None
    assert notify(NotifyConfig(), SUMMARY, tmp_path) is None
    assert not (tmp_path / "called").exists()
