"""Online: shards become batches, as a pure function of position."""
