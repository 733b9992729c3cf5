"""Facts about an Ascend machine, without TensorFlow."""
