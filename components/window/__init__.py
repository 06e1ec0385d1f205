"""Window: several spans of photos, each ingested and passed through the backbone once, as one set to train on."""
