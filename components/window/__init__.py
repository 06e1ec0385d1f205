"""Window: combines several spans of photos, each ingested and passed through the backbone once, into one data set."""
