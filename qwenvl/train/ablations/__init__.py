"""Variants of one recipe at one budget, and what the paper found."""
