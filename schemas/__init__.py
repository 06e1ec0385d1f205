"""The data contract: what every example holds, written once. Knows nothing of TFX components."""
