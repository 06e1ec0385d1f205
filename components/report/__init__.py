"""Report: what a run did, for people and programs, also when it was refused or stopped."""
