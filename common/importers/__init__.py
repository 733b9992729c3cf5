"""Weights from elsewhere. A module here reads one kind of file: read(path) -> {name: array}. What the names mean, a model knows."""
