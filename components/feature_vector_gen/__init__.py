"""FeatureVectorGen: the frozen backbone runs once over all photos; the vectors are an artifact."""

PASS_FILE = "pass.json"
# Property of the vectors: the address of the photos that they are of.
PHOTOS_PROPERTY = "photos"
