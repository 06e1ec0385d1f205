"""DriftGate: compares a new span with the earlier ones of the window, and stops the run if it is too different."""

# Properties of the verdict: what is to be done, the address of the vectors it is about, and `drift` as JSON.
ACTION_PROPERTY = "action"
VECTORS_PROPERTY = "vectors"
THRESHOLDS_PROPERTY = "thresholds"
