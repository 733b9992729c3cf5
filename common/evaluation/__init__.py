"""Evaluates a checkpoint on a split, or on image files."""
