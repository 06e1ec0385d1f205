"""Copies of models that take no space."""

import os

from components import linked_copy
from components.linked_copy import copy_folder


def model(folder):
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text("graph")
    (folder / "variables" / "variables.index").write_text("index")
    return folder


def test_the_files_are_links_and_a_new_file_is_in_one_folder_alone(tmp_path):
    source, target = model(tmp_path / "a"), tmp_path / "b"
    copy_folder(str(source), str(target))
    (target / "more").write_text("more")
    for name in ("saved_model.pb", "variables/variables.index"):
        assert (source / name).samefile(target / name)
    assert not (source / "more").exists()


def test_the_target_may_be_there(tmp_path):
    target = tmp_path / "b"
    target.mkdir()
    copy_folder(str(model(tmp_path / "a")), str(target))
    assert (target / "saved_model.pb").read_text() == "graph"


def test_a_file_that_is_replaced_stays_as_it_is_in_the_other(tmp_path):
    source, target = model(tmp_path / "a"), tmp_path / "b"
    copy_folder(str(source), str(target))
    (tmp_path / "new").write_text("new")
    os.replace(tmp_path / "new", target / "saved_model.pb")
    assert (source / "saved_model.pb").read_text() == "graph"


def test_without_links_the_files_are_copied(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(linked_copy.os, "link", refuse)
    source, target = model(tmp_path / "a"), tmp_path / "b"
    copy_folder(str(source), str(target))
    assert (target / "saved_model.pb").read_text() == "graph"
    assert not (source / "saved_model.pb").samefile(target / "saved_model.pb")
