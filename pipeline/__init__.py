"""The configuration and the one graph. Knows nothing of laptops, clusters or schedules."""
