"""Evaluation: each model answers each photo once, and TFX Evaluator works from those answers.

- `predictions` stores the probabilities of every model for every photo of the eval and test splits
- `eval_config` is what TFX Evaluator is told: metrics, slices and thresholds
- `stored_predictions` reads them back
- `metrics` computes accuracy, log loss and calibration error with intervals from the stored predictions
"""
