"""Operations on sorted lines: keys, snapshots, deltas, patches. Pure: buffers in, buffers out."""
