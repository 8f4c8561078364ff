"""Sample -> Encoded, for training and for inference alike: tokenizer, regions, renderer, pictures, positions, collation."""
