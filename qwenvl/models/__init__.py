"""The models: mathematics only. No file, address, tokenizer, environment variable or process group is known here."""
