"""Arguments of Beam for a step that a test runs by itself."""

# With a setup file that nobody reads: without one TFX packs itself up first, which takes seconds.
IN_PROCESS = ["--runner=FnApiRunner", "--setup_file=unused"]
