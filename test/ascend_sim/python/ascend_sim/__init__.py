"""What stands behind the stand-ins for npu_bridge and hccl: an Ascend server that does not exist.

The real tool chain has no package of this name. Code under test never imports it; tests may.
"""
