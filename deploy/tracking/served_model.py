"""A SavedModel of warmstart as MLflow loads it. Logged with each model, so it needs TensorFlow and nothing of ours."""

import mlflow.pyfunc
import pandas as pd
from mlflow.models import set_model


class ServedModel(mlflow.pyfunc.PythonModel):
    """Takes the bytes of JPEG, PNG, GIF or BMP files and gives what the signature `serving_default` gives."""

    _PHOTOS_AT_ONCE = 4  # masks are as large as the photos
    # The columns, in the order of the signature that is logged with the model.
    _COLUMNS = ("label", "probability", "probabilities", "abstains", "mask_png_bytes", "class_shares")

    def load_context(self, context):
        """Overrides PythonModel.load_context()."""
        import tensorflow as tf

        self._tf = tf
        self._loaded = tf.saved_model.load(context.artifacts["saved_model"])

    def predict(self, context, model_input, params=None):
        """Overrides PythonModel.predict().

        Args:
          model_input: a data frame with the column `image_bytes`, a photo's file in each row.

        Returns:
          a data frame with a row for each photo: `label`, `probability`, `probabilities` and `abstains`, or
          `mask_png_bytes` and `class_shares`.
        """
        photos = [bytes(photo) for photo in model_input["image_bytes"]]
        signature = self._loaded.signatures["serving_default"]
        rows = []
        for start in range(0, len(photos), self._PHOTOS_AT_ONCE):
            batch = photos[start : start + self._PHOTOS_AT_ONCE]
            outputs = signature(image_bytes=self._tf.constant(batch))
            said = {name: outputs[name].numpy() for name in self._COLUMNS if name in outputs}
            rows += [{name: _plain(found[i]) for name, found in said.items()} for i in range(len(batch))]
        return pd.DataFrame(rows)


def _plain(value):
    """A text of the model as text where it is one: masks stay bytes."""
    if isinstance(value, bytes):
        return value if value.startswith(b"\x89PNG") else value.decode()
    return value.tolist()


set_model(ServedModel())
