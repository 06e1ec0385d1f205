"""Where and when the pipeline runs: the command line, this machine, a cluster, a schedule."""
