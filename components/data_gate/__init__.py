"""DataGate: stops the run when the data are not fit to train on, and says why."""
