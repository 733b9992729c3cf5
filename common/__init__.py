"""What every model shares: configuration, devices, training, evaluation, records, metrics,
checkpoints.
"""

import atexit
import logging
import os
import sys
import warnings

# TensorFlow 1.15 on a current NumPy greets with pages of deprecation notices; they hide the lines
# that matter.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
warnings.filterwarnings('ignore', category=FutureWarning, module=r'tensorflow|tensorboard|h5py')
warnings.filterwarnings('ignore', category=DeprecationWarning)
logging.getLogger('tensorflow').setLevel(logging.ERROR)


def _excepthook(kind, error, traceback):
    """Ends with status 130 for Ctrl-C, also while modules are imported, and with one line where
    this Python lacks a package or has another TensorFlow.
    """
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write('interrupted\n')
        sys.stderr.flush()
        atexit._run_exitfuncs()  # the interpreter itself would end with status 1
        os._exit(130)
    version = getattr(sys.modules.get('tensorflow'), '__version__', '1.15')
    if not version.startswith('1.15'):
        error, kind = 'TensorFlow is %s, not 1.15' % version, ModuleNotFoundError
    if issubclass(kind, ModuleNotFoundError):
        sys.stderr.write(
            'error: %s: %s; ./setup.sh makes .venv/bin/python, which has all that is needed, and'
            ' python -m common.doctor says what is missing\n' % (sys.executable, error)
        )
        return
    sys.__excepthook__(kind, error, traceback)


sys.excepthook = _excepthook
