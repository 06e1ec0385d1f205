"""ReleaseGate: what the winner must show on the test split before it may be pushed."""
