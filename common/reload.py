"""The former name of `python -m common.export_weights`."""

import runpy

if __name__ == '__main__':
    runpy.run_module('common.export_weights', run_name='__main__')
