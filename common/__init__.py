"""What every model shares: configuration, devices, training, evaluation, records, metrics,
checkpoints.
"""

import logging
import os
import warnings

# TensorFlow 1.15 on a current NumPy greets with pages of deprecation notices; they hide the lines
# that matter.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
warnings.filterwarnings('ignore', category=FutureWarning, module=r'tensorflow|tensorboard|h5py')
warnings.filterwarnings('ignore', category=DeprecationWarning)
logging.getLogger('tensorflow').setLevel(logging.ERROR)
