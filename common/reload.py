"""The former name of `python -m common.export_weights`."""

from common.export_weights import main

if __name__ == '__main__':
    main()
