"""A recipe, and the module example_config for the tests of this folder."""

import pathlib
import sys

import pytest
import yaml

sys.path.append(str(pathlib.Path(__file__).parent))


@pytest.fixture
def yaml_file(tmp_path):
    """yaml_file(text or mapping): path of a recipe.yaml with this content."""

    def write(text):
        path = tmp_path / 'recipe.yaml'
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return path

    return write
