"""What is known about the checkpoints of this model."""

from common.checkpoints.description import Description


def describe(shapes):
    """Returns what a checkpoint holds and the flags that fit it; None if it is another model's."""
    if not {'conv1/kernel', 'hidden/kernel', 'output/kernel'} <= set(shapes):
        return None
    flags = dict(filters=shapes['conv1/kernel'][3], num_classes=shapes['output/kernel'][1])
    return Description(
        'a LeNet with %(filters)d filters and %(num_classes)d classes' % flags, flags
    )


def classifier_scopes(cfg):
    return ('output',)
