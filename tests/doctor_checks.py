"""What every failed check of `warmstart doctor` must be."""

from deploy.checks import Check, line


def assert_fails(check: Check, *words: str) -> None:
    """It fails, is found as said, and says what to do."""
    assert check.state == "fail", check
    assert check.todo
    text = f"{check.found}; {check.todo}"
    assert [word for word in words if word not in text] == [], text
    assert len(line(check).splitlines()) == 1
