"""ServableCheck: a fresh process with nothing but TensorFlow loads the model and must answer as Evaluator saw it."""
