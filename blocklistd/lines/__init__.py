"""The algebra of sorted lines: keys, snapshots, deltas. Pure: buffers in, buffers out."""
