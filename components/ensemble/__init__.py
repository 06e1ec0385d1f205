"""Ensemble: both models in one SavedModel, which answers with the mean of their probabilities."""
