"""A run's folder, its plots and its report."""
