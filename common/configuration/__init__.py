"""What a run is told: the fields of a recipe, which are also its flags."""
