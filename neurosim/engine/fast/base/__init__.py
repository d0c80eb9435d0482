"""What every station uses: how functions are compiled, the queue of wakes, channels and credits, bursts of results, vectors of 32-bit lanes."""
