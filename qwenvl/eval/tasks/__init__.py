"""Benchmarks, one module each: the source of pictures, the questions, the limits and the scorers."""
