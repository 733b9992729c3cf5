"""The configuration of a run: the fields of a recipe, which are also its flags."""
