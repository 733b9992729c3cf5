"""npu_bridge.estimator.npu.npu_callbacks. Differs: Keras is not modelled."""


class NPUBroadcastGlobalVariablesCallback:
    def __init__(self, root_rank):
        raise NotImplementedError(
            'Keras callbacks are not modelled by the stand-in (test/ascend_sim)'
        )
