"""What stands behind the stand-in `npu_bridge` and `hccl` packages: an Ascend server that exists
only in the imagination.

The real tool chain has nothing of this name; code under test never imports it, tests of the
stand-in may.
"""
