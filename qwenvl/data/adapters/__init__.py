"""Public datasets as Samples: one short function for each published schema, from the files as they are distributed."""
