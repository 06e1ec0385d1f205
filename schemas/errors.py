"""The errors that a user can fix without reading code."""


class BadInput(ValueError):
    """The user's input is wrong: configuration, path, data or backbone.

    The message is one or a few sentences: what was found, what was expected, where, and what to do. The command line
    prints it without a traceback and exits with code 2.
    """


class DataRefused(BadInput):
    """A gate refused the photos; other photos or other limits would pass."""
