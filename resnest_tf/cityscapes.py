"""Cityscapes' classes, ids and colours (Cordts et al. 2016; the same as the `cityscapesscripts`
package has them). NumPy alone.

A pixel of a label file holds a label id, 0 to 33. Of the 34 labels, 19 are trained and scored; they
are counted by train ids, 0 to 18, and every other label is train id 255, which losses and scores
leave out.
"""

import numpy as np

IGNORE = 255
LABELS = 34  # label ids are 0 to 33; 255 is how 8 bits hold the -1 of a license plate
COUNTS = {'train': 2975, 'val': 500, 'test': 1525}  # images

_TABLE = [  # train ids count its lines: (class, label id, red, green, blue)
    ('road', 7, 128, 64, 128),
    ('sidewalk', 8, 244, 35, 232),
    ('building', 11, 70, 70, 70),
    ('wall', 12, 102, 102, 156),
    ('fence', 13, 190, 153, 153),
    ('pole', 17, 153, 153, 153),
    ('traffic light', 19, 250, 170, 30),
    ('traffic sign', 20, 220, 220, 0),
    ('vegetation', 21, 107, 142, 35),
    ('terrain', 22, 152, 251, 152),
    ('sky', 23, 70, 130, 180),
    ('person', 24, 220, 20, 60),
    ('rider', 25, 255, 0, 0),
    ('car', 26, 0, 0, 142),
    ('truck', 27, 0, 0, 70),
    ('bus', 28, 0, 60, 100),
    ('train', 31, 0, 80, 100),
    ('motorcycle', 32, 0, 0, 230),
    ('bicycle', 33, 119, 11, 32),
]
CLASSES = [row[0] for row in _TABLE]  # in the order of train ids
LABEL_IDS = np.array([row[1] for row in _TABLE], np.uint8)  # [19]: train id -> label id
PALETTE = np.array([row[2:] for row in _TABLE], np.uint8)  # [19, 3]: train id -> RGB
TRAIN_IDS = np.full(256, IGNORE, np.uint8)  # [256]: label id -> train id
TRAIN_IDS[LABEL_IDS] = np.arange(len(CLASSES))
