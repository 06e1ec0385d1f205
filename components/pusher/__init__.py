"""Pusher: a blessed model appears in the serving folder whole, or not at all."""
