"""Models that several steps ask are loaded once, until the last of these lets them go."""

from collections.abc import Iterator

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import pytest
import tensorflow as tf

from components.loaded_models import forget_models, load_model, remember_model


@pytest.fixture
def folders(tmp_path) -> Iterator[list[str]]:
    """Of four models, each of which has its number."""
    found = [str(tmp_path / str(number)) for number in range(4)]
    for number, folder in enumerate(found):
        module = tf.Module()
        module.number = tf.Variable(number)
        tf.saved_model.save(module, folder)
    yield found
    forget_models(found)


@pytest.fixture
def loaded(monkeypatch) -> list[str]:
    """The folders that models were loaded from."""
    found: list[str] = []
    load = tf.saved_model.load
    monkeypatch.setattr(tf.saved_model, "load", lambda folder: found.append(folder) or load(folder))
    return found


def test_a_model_is_loaded_once_until_it_is_forgotten(folders, loaded):
    folders = folders[:2]
    models = [load_model(folder) for folder in (*folders, *folders)]
    assert [int(model.number) for model in models] == [0, 1, 0, 1]
    assert loaded == folders
    forget_models([folders[0], "never loaded"])
    assert load_model(folders[1]) is models[1]
    assert load_model(folders[0]) is not models[0]
    assert loaded == [*folders, folders[0]]


def test_of_many_the_last_three_are_kept(folders, loaded):
    for folder in (*folders, *folders[1:], folders[0]):
        load_model(folder)
    assert loaded == [*folders, folders[0]]


def test_a_model_that_was_just_exported_is_not_loaded(folders, loaded):
    exported = object()
    remember_model(folders[0], exported)
    assert load_model(folders[0]) is exported
    assert loaded == []
    forget_models(folders[:1])
    assert load_model(folders[0]) is not exported
