"""A model that acts: screenshot, model, action, screenshot, in a real browser or a drawn world."""
