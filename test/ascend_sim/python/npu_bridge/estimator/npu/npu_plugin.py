"""npu_bridge.estimator.npu.npu_plugin. Differs: options beside precision are checked, then ignored;
RDMA is not modelled.
"""

from ascend_sim import device, errors, options, overflow, release

from npu_bridge.estimator.npu import util


def npu_resource_init(
    graph_run_mode,
    op_debug_level,
    enable_profiling,
    profiling_options,
    precision_mode,
    enable_exception_dump,
    aoe_mode,
    work_path,
    hcom_multi_mode=False,
    precision_mode_v2=None,
    **_,
):
    """Takes the device for the whole process: sessions neither initialise nor tear it down any
    more.
    """
    util.check_nonnegative_integer(graph_run_mode, 'graph_run_mode')
    if graph_run_mode > 1:
        raise ValueError('"graph_run_mode" value must be 0 or 1')
    util.check_nonnegative_integer(enable_exception_dump, 'enable_exception_dump')
    util.check_nonnegative_integer(op_debug_level, 'op_debug_level')
    util.check_bool_type(enable_profiling, 'enable_profiling')
    if enable_profiling and profiling_options is None:
        raise ValueError('profiling_options must be set when use profiling')
    if aoe_mode is not None:
        util.check_aoe_mode(aoe_mode)
        util.check_path(work_path if work_path is not None else './')
    util.check_bool_type(hcom_multi_mode, 'hcom_multi_mode')
    for name, mode, legal in (
        ('precision_mode', precision_mode, options.PRECISION_MODES),
        ('precision_mode_v2', precision_mode_v2, options.PRECISION_MODES_V2),
    ):
        if mode is not None and mode not in legal:
            errors.fatal('[GePlugin] Initialize ge failed: %s %s is invalid' % (name, mode))
    device.initialise(at_once=True, make_global=True)


def npu_resource_shutdown():
    device.finalise()


def npu_close():
    device.finalise()


def set_device_sat_mode(mode):
    """0 saturation, 1 Inf/NaN. A mode that the chip lacks (910A: 1) changes nothing and raises
    nothing, as in reality.
    """
    overflow.set_sat_mode(mode)


def is_inf_nan_enabled():
    return overflow.inf_nan_mode()


release.publish(globals(), __name__)
