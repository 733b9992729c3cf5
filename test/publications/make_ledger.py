"""Writes MODEL.json, the ledger of a model's recipes, from the publications' own code:

    python make_ledger.py MODEL CLONES [--output FOLDER]

CLONES holds a clone, or a bare one, of every repository that sources_of_MODEL.py names, as
CLONES/OWNER+NAME. Python 3.8 or newer; no packages. Each value is taken out of a line of the source
by a pattern, and the ledger keeps it together with that line.
"""

import argparse
import importlib
import json
import pathlib

from sources import Source

HERE = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model')
    parser.add_argument('clones', type=pathlib.Path)
    parser.add_argument('--output', default=str(HERE))
    options = parser.parse_args()
    Source.clones = options.clones
    ledger = importlib.import_module('sources_of_' + options.model).ledger()
    path = pathlib.Path(options.output) / (options.model + '.json')
    path.write_text(json.dumps(ledger, indent=1) + '\n')


if __name__ == '__main__':
    main()
