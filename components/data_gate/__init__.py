"""DataGate: stops the run if the data cannot be trained on, and says why."""
