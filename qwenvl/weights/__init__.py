"""Checkpoints: name tables, strict loading and saving, int8 storage, conversion from pretrained parts, the hub."""
