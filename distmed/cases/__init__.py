"""What a medical example is: rows of a known data set become `Case`, and a `Case` becomes text or chat messages."""
