"""From a loss to a trained run."""
