"""Scorers: pure functions from a reply and the truth to what was earned out of what could be."""
