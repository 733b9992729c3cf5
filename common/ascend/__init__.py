"""Facts about an Ascend machine: its chips, CANN, the environment of a rank, error codes. Without
TensorFlow.
"""
