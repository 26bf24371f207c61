"""What a checkpoint holds: slices by rank, loadable at any world size, and the export of a Hugging Face folder."""
