"""Losses, and figures computed from counts."""
