"""Using a model: sessions with a cache, sampling, answers with their places, and pictures with those drawn."""
