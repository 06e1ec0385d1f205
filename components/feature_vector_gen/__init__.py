"""FeatureVectorGen: the frozen backbone runs once over all photos; the vectors are an artifact."""

PASS_FILE = "pass.json"
