"""What is in a checkpoint and how it fits a network."""
