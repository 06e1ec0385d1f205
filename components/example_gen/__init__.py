"""From folders of photos (or TensorFlow Datasets) to `tf.train.Example` records."""
