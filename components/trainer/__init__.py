"""The two trainers: feature extraction on a frozen backbone, then fine-tuning warm-started from it.

- `feature_extraction.run_fn` and `fine_tuning.run_fn` are what TFX Trainer calls
- `settings` says what they are told, `phase` does what both do around their training
- `model` holds the head and the one loss both phases share
- `loop` trains and keeps the best epoch
- `calibration` fits the temperature that makes the probabilities honest
- `warm_start` copies variables by name
- `serving_model` exports the whole model, photo in and probabilities out
"""

# In the folder of a training run: the learning curves.
HISTORY_FILE = "training.json"
