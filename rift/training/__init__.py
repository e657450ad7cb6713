"""Training of a network under attack: one trainer for all regimes."""
