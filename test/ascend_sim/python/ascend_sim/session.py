"""Makes tf.Session run on the device by patching Session.run, where the adapter has optimisation
passes.

A session whose ConfigProto has an NpuOptimizer has its options checked and takes the device at its
first run; its training steps are checked once, and one whose op is named "IterationOp" is run
iterations_per_loop times per call. Other sessions run as ever. The graph itself runs in TensorFlow
on the CPU, in float32.
"""

import os
import weakref

from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import session as session_lib

from ascend_sim import device, errors, graph_check, marks, options

LOOP_VARIABLE = 'npu_runconfig_iterations_per_loop'  # its collection
_init, _run, _close = (
    getattr(session_lib.BaseSession, name) for name in ('__init__', 'run', 'close')
)
pool = None  # inter-op threads of this process, by the config of its first session


class _Token:
    """Stands for one session in the device's books."""


class _Plan:
    """What one set of fetches means."""

    def __init__(self, fetched):
        ops = graph_check.ancestors(fetched)
        kinds = {marks.kind(op) for op in ops}
        self.starts, self.stops = marks.INIT in kinds, marks.SHUTDOWN in kinds
        self.only_control = all(
            marks.kind(op) in (marks.INIT, marks.SHUTDOWN) or op.type == 'NoOp' for op in ops
        )
        self.hccl = next((op for op in ops if marks.is_hccl(op)), None)
        self.fused = sum(marks.is_hccl(op) and marks.fusion(op) == 1 for op in ops)
        self.roots = [op for op in fetched if graph_check.trains(op)]
        self.loop = next((op for op in ops if op.name == 'IterationOp'), None)
        self.iterator = next((op for op in ops if op.type == 'MakeIterator'), None)
        self.checked = False


class _State:
    def __init__(self, session):
        self.token = _Token()
        self.options = options.validate(session._config) if session._config else None
        self.plans = {}
        self.generation = None
        self.release = weakref.finalize(session, device.leave, self.token)


def _plan(session, state, fetches) -> _Plan:
    handler = session_lib._FetchHandler(session.graph, fetches, {})
    fetched = [tensor.op for tensor in handler.fetches()] + handler.targets()
    key = tuple(sorted({op.name for op in fetched}))
    if key not in state.plans:
        state.plans[key] = _Plan(list({op.name: op for op in fetched}.values()))
    return state.plans[key]


def init(self, target='', graph=None, config=None):
    """Session.__init__ of every session: the first one sizes the pool that all share."""
    global pool
    if pool is None:
        pool = (config.inter_op_parallelism_threads if config else 0) or int(
            os.environ.get('TF_NUM_INTEROP_THREADS') or len(os.sched_getaffinity(0))
        )
    # TensorFlow need not optimise what the device compiles by itself.
    plain = config_pb2.ConfigProto()
    plain.CopyFrom(config or plain)
    plain.graph_options.rewrite_options.disable_meta_optimizer = True
    _init(self, target, graph, plain)
    self._config = config


def run(self, fetches, feed_dict=None, options=None, run_metadata=None):
    """Session.run of every session."""
    if self._closed or self.graph.version == 0:
        return _run(self, fetches, feed_dict, options, run_metadata)
    state = getattr(self, '_ascend_sim', None)
    if state is None:
        state = self._ascend_sim = _State(self)
    plan = _plan(self, state, fetches)
    if plan.stops:
        device.shut_down()
    if plan.starts:
        device.initialise(at_once=True)
        device.started(state.token)
    if state.options is None and plan.hccl is not None:
        raise errors.internal(
            '%s (%s) has no kernel on the host: the session has no NpuOptimizer'
            % (plan.hccl.name, marks.kind(plan.hccl).decode()),
            plan.hccl,
        )
    if state.options is not None and not plan.only_control:
        _take_device(state, plan)
        if plan.iterator and pool < 2:
            raise errors.internal(
                '%s hangs: the adapter blocks an inter-op thread and waits for that same pool,'
                ' which has 1 thread (inter_op_parallelism_threads of the first session)'
                % plan.iterator.name
            )
        if plan.roots:
            _check_step(self, state, plan, feed_dict)
            for _ in range(state.options.iterations_per_loop - 1):
                _run(self, plan.loop)
    return _run(self, fetches, feed_dict, options, run_metadata)


def _take_device(state, plan) -> None:
    device.initialise(at_once=False)
    if state.generation not in (None, device.generation):
        raise errors.internal(
            '[GEOP] the device was shut down and started again while this session was open; open a'
            ' new session'
        )
    state.generation = device.generation
    device.enter(state.token)
    if plan.hccl is not None and not device.has_hcom():
        raise errors.internal(
            '%s (%s): HCCL is not initialised, neither RANK_TABLE_FILE nor CM_CHIEF_IP is set'
            % (plan.hccl.name, marks.kind(plan.hccl).decode()),
            plan.hccl,
        )


def _check_step(session, state, plan, feed_dict) -> None:
    """The rules for a training step; all but the feeds once per set of fetches."""
    if feed_dict:
        names = ', '.join(sorted(getattr(key, 'name', str(key)) for key in feed_dict))
        raise errors.invalid(
            'the training step is fed (%s); data must come from an initializable tf.data iterator'
            % names
        )
    if plan.checked:
        return
    graph_check.check(plan.roots, state.options.iterations_per_loop)
    _check_loop(session, plan, state.options)
    _check_split(plan)
    plan.checked = True


def _check_loop(session, plan, chosen) -> None:
    iterations = chosen.iterations_per_loop
    if plan.loop is None:
        if iterations > 1:
            raise errors.invalid(
                'iterations_per_loop is %d, but the training op %s is not named IterationOp, so the'
                ' device would run one step per call' % (iterations, plan.roots[0].name)
            )
        return
    if iterations > 1 and not chosen.enable_data_pre_proc:
        raise errors.invalid('iterations_per_loop=%d needs enable_data_pre_proc=True' % iterations)
    variables = session.graph.get_collection(LOOP_VARIABLE)
    if not variables:
        raise errors.invalid('IterationOp without the variable npu_runconfig/iterations_per_loop')
    loaded = int(_run(session, variables[0])) + 1
    if loaded != iterations:
        raise errors.invalid(
            'iterations_per_loop is %d in the parameter_map, but %d was loaded into the variable;'
            ' they must be equal' % (iterations, loaded)
        )


def _check_split(plan) -> None:
    """The last index of a split by index is that of the last gradient."""
    kind, values = device.split.get('hccl_world_group', (None, None))
    if kind == 'idx' and plan.fused and values[-1] != plan.fused - 1:
        raise errors.internal(
            'Allreduce split error: the last index is %d, but there are %d gradients, so it must'
            ' be %d' % (values[-1], plan.fused, plan.fused - 1)
        )


def close(self):
    """Session.close of every session."""
    _close(self)
    state = getattr(self, '_ascend_sim', None)
    if state is not None:
        state.release()


def install() -> None:
    """Patches tf.Session; called once, on import of npu_bridge."""
    session_lib.BaseSession.__init__ = init
    session_lib.BaseSession.run = run
    session_lib.BaseSession.close = close
