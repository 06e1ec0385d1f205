"""The model in production over HTTP: TensorFlow Serving's REST protocol, KServe's V2 protocol, and a page for people.

`model` holds the version that answers, `batcher` puts photos of several requests into one call of it, `protocol` reads
and writes the bodies, `application` connects them to HTTP, and `server` runs all of it until a signal comes.
"""
