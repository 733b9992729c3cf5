"""The example of CONTRIBUTING.md: a small network on handwritten digits, all in this folder."""
