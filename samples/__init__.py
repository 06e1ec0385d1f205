"""Drawn photos for trying warmstart where no real ones are at hand."""
