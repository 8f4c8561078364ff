"""Evaluation: tasks ask, the runner saves what the model answers, scorers read what was saved."""
