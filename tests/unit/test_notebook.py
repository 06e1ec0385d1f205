"""docs/first_steps.ipynb: kept without results, and every cell of it runs."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from pathlib import Path

import pytest

import warmstart

NOTEBOOK = Path(__file__).parents[2] / "docs" / "first_steps.ipynb"


def cells(kind: str) -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_it_is_kept_without_results_and_without_paths_of_a_machine():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")] == []
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert "/" not in notebook["metadata"]["kernelspec"]["display_name"]
    assert max(len(line) for cell in notebook["cells"] for line in cell["source"]) <= 121  # with the end of the line


def test_its_cells_are_python_that_uses_what_there_is():
    sources = cells("code")
    assert len(sources) > 4
    used = set()
    for source in sources:
        plain = "\n".join(line for line in source.splitlines() if not line.startswith("!"))
        for node in ast.walk(ast.parse(plain)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "warmstart":
                used.add(node.attr)
    assert used == {"run", "load"} <= set(warmstart.__all__)


def test_its_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", "".join(cells("markdown")))
    assert targets
    assert [target for target in targets if not (NOTEBOOK.parent / target).exists()] == []


@pytest.mark.slow
@pytest.mark.release
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """In a kernel, as in Jupyter."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    shutil.copy(NOTEBOOK, tmp_path)
    path = [str(NOTEBOOK.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    printed = ["".join(output.get("text", "") for output in of_cell) for of_cell in outputs]
    drawn, trained, looked, page, again, answered, wrong = printed
    assert "120 photos in cat/ and dog/" in drawn
    for line in ("ImageExampleGen", "Pusher", "the models on", "status: pushed"):
        assert line in trained
    assert looked.startswith("pushed - ")
    assert "verdict  " in looked
    assert (tmp_path / page.strip()).is_file()
    assert again.startswith("skipped - ")
    lines = answered.splitlines()
    assert lines[0].startswith("sample/cats_vs_dogs/cat/cat.1.jpg: ")
    assert lines[-1] == "no-such-photo.jpg cannot be read: No such file or directory."
    assert re.match(r"\d+ of \d+ answers are wrong", wrong)
