"""The review page: a person says of single photos what they show, and the next run learns it.

`items` are the photos of a run that are worth a look, `decisions` writes what is said about them into the file of
corrections, `photo_finder` finds their pictures, `new_span` makes a span of photos that a server or `predict` has
collected, and `application` connects all of it to HTTP.
"""
