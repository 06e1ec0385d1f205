"""Evaluation: each model answers each photo once, and TFX Evaluator works from those answers.

- `predictions` stores the probabilities of every model for every photo of the eval and test splits
- `stored_predictions` reads them back
- `eval_config` is what TFX Evaluator is told: metrics, slices and thresholds
- `answer_metrics` are the metrics that it lacks
- `metrics` computes the same ones with intervals from the stored predictions
"""
