"""Models that several steps ask are loaded once, until the last of these lets them go."""

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.loaded_models import forget_models, load_model


def test_a_model_is_loaded_once_until_it_is_forgotten(tmp_path, monkeypatch):
    loaded = []
    load = tf.saved_model.load
    monkeypatch.setattr(tf.saved_model, "load", lambda folder: loaded.append(folder) or load(folder))
    folders = [str(tmp_path / name) for name in ("one", "other")]
    for number, folder in enumerate(folders):
        module = tf.Module()
        module.number = tf.Variable(number)
        tf.saved_model.save(module, folder)
    models = [load_model(folder) for folder in (*folders, *folders)]
    assert [int(model.number) for model in models] == [0, 1, 0, 1]
    assert loaded == folders
    forget_models([folders[0], "never loaded"])
    assert load_model(folders[1]) is models[1]
    assert load_model(folders[0]) is not models[0]
    assert loaded == [*folders, folders[0]]
    forget_models(folders)
