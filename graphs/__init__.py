"""What a network is and how it may change: reading, structure, mothers, exact growth, proof."""
