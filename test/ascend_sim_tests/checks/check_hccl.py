"""Rank tables, environment variables, devices and the hccl package."""

import json
import os
import time

import pytest
import tensorflow.compat.v1 as tf
from ascend_sim import device, environment, rank_table, rendezvous
from ascend_sim.environment import Refused
from npu_bridge.estimator import npu_ops
from npu_bridge.hccl import hccl_ops

from hccl.manage import api
from hccl.split.api import set_split_strategy_by_idx, set_split_strategy_by_size


def table(servers=1, devices=8):
    return {
        'version': '1.0',
        'status': 'completed',
        'server_count': str(servers),
        'server_list': [
            {
                'server_id': 'server%d' % server,
                'device': [
                    {
                        'device_id': str(item),
                        'device_ip': '10.0.%d.%d' % (server, item),
                        'rank_id': str(server * devices + item),
                    }
                    for item in range(devices)
                ],
            }
            for server in range(servers)
        ],
    }


def put(tmp_path, content, name='rank_table.json'):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def check_rank_tables(tmp_path):
    assert rank_table.read(put(tmp_path, table(2, 4))) == [0, 1, 2, 3] * 2
    without_ip = table(1, 1)
    del without_ip['server_list'][0]['device'][0]['device_ip']
    assert rank_table.read(put(tmp_path, without_ip)) == [0]


FIRST = ('server_list', 0, 'device', 0)


@pytest.mark.parametrize(
    'text, path, value',
    [
        ('Ranktable version is not supported', ('version',), '0.1'),
        ('property value of Name\\[version\\] is not string', ('version',), 1.0),
        ("The 'server_count' in ranktable is invalid.", ('server_count',), '3'),
        ('property value of Name\\[rank_id\\] is not string', FIRST + ('rank_id',), 0),
        ('The rank ID is used repeatedly or', FIRST + ('rank_id',), '1'),
        ('The rank ID is used repeatedly or', FIRST + ('rank_id',), '9'),
        ('device_id\\[8\\] more than 7 is invalid', FIRST + ('device_id',), '8'),
        ('device id repeat for one server', FIRST + ('device_id',), '1'),
        ('The IP is used repeatedly.', FIRST + ('device_ip',), '10.0.1.1'),
        ('not a valid ip address', FIRST + ('device_ip',), '10.0.0.300'),
        ("'device_ip' is missing", FIRST + ('device_ip',), None),
        ('server_id', ('server_list', 0, 'server_id'), 'server1'),
        ("Invalid ranktable format. 'server_list'", ('server_list',), None),
        ("'status'", ('status',), 'done'),
        ('The devices num in ranktable is invalid', ('server_list', 1, 'device', 1), None),
    ],
)
def check_rank_table_refused(tmp_path, text, path, value):
    """One entry of table(2, 2) is set or (None) removed."""
    content = where = table(2, 2)
    for key in path[:-1]:
        where = where[key]
    if value is None:
        del where[path[-1]]
    else:
        where[path[-1]] = value
    with pytest.raises(Refused, match='EI0004: The ranktable or rank is invalid,Reason:.*' + text):
        rank_table.read(put(tmp_path, content))


def check_own_rank(tmp_path, monkeypatch):
    path = put(tmp_path, table(1, 4))
    with pytest.raises(Refused, match="Can't find rank_id or pod_name in env."):
        rank_table.find(path, 2)
    monkeypatch.setenv('RANK_ID', '2')
    assert rank_table.find(path, 2) == (4, 2)
    with pytest.raises(Refused, match='devId is inconsistent with the local devId.'):
        rank_table.find(path, 3)
    monkeypatch.setenv('RANK_ID', '4')
    with pytest.raises(Refused, match='the ranktable has 4 ranks'):
        rank_table.find(path, 2)
    with pytest.raises(Refused, match='must end with .json'):
        rank_table.find(put(tmp_path, table(), 'table.txt'), 2)
    with pytest.raises(Refused, match='Invalid ranktable format'):
        rank_table.read(put(tmp_path, '{"status": "completed", // a comment\n}'))


@pytest.mark.parametrize(
    'name, value, text',
    [
        ('HCCL_CONNECT_TIMEOUT', '60', 'EI0001.*HCCL_CONNECT_TIMEOUT=60.*\\[120, 7200\\]'),
        ('HCCL_EXEC_TIMEOUT', '20000', 'EI0001'),
        ('JOB_ID', '01', 'JOB_ID'),
        ('JOB_ID', 'a b', 'JOB_ID'),
    ],
)
def check_environment_refused(monkeypatch, name, value, text):
    monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=text):
        environment.check()


def check_environment(monkeypatch, dies):
    assert environment.device_id() == 0 and environment.rank_size() == 1
    monkeypatch.setenv('DEVICE_ID', '3')
    monkeypatch.setenv('ASCEND_DEVICE_ID', '5')
    assert environment.device_id() == 5
    monkeypatch.setenv('ASCEND_DEVICE_ID', 'x')
    assert 'ASCEND_DEVICE_ID is invalid, should be int' in dies(environment.device_id)
    monkeypatch.setenv('ASCEND_DEVICE_ID', '8')
    assert 'get logic device id' in dies(environment.device_id)
    monkeypatch.setenv('RANK_SIZE', '2')
    monkeypatch.setenv('CM_WORKER_SIZE', '2')
    with pytest.raises(ValueError, match='RANK_SIZE and CM_WORK_SIZE cannot be configured'):
        environment.rank_size()
    monkeypatch.setenv('CM_CHIEF_IP', '127.0.0.1')
    with pytest.raises(Refused, match='RANK_SIZE must not be set'):
        environment.cm_variables()
    monkeypatch.delenv('RANK_SIZE')
    with pytest.raises(Refused, match='CM_CHIEF_PORT, CM_CHIEF_DEVICE, CM_WORKER_IP'):
        environment.cm_variables()
    monkeypatch.setenv('RANK_TABLE_FILE', 'x.json')
    with pytest.raises(Refused, match='CM_CHIEF_IP and RANK_TABLE_FILE cannot be configured'):
        environment.cm_variables()


def check_job_without_a_rank_table(monkeypatch, npu_session):
    for name, value in (
        ('CM_CHIEF_IP', '127.0.0.1'),
        ('CM_CHIEF_PORT', '29688'),
        ('CM_CHIEF_DEVICE', '2'),
        ('CM_WORKER_SIZE', '1'),
        ('CM_WORKER_IP', '127.0.0.1'),
        ('ASCEND_DEVICE_ID', '2'),
    ):
        monkeypatch.setenv(name, value)
    with npu_session() as session:
        session.run(tf.constant(1) + 1)
        assert (api.get_rank_size(), api.get_rank_id()) == (1, 0) and device.has_hcom()
    monkeypatch.setenv('CM_CHIEF_PORT', '65521')
    with pytest.raises(tf.errors.InternalError, match='CM_CHIEF_PORT=65521'):
        npu_session().run(tf.constant(1) + 1)


def check_initialisation(npu_session, monkeypatch, tmp_path, dies):
    """Ranks before, during and after; the session that trains takes the device down with it."""
    with pytest.raises(RuntimeError, match='not initialised'):
        api.get_rank_size()
    start, stop, work = npu_ops.initialize_system(), npu_ops.shutdown_system(), tf.constant(1) + 1
    first = npu_session()
    first.run(start)
    assert (api.get_rank_size(), api.get_rank_id()) == (1, 0)
    second = npu_session()
    assert second.run(work) == 2 and device.initialised()
    second.close()
    assert not device.initialised()  # although `first` is still open
    first.run(start)
    assert api.get_rank_size() == 1
    first.run(stop)
    with pytest.raises(RuntimeError):
        api.get_rank_id()
    monkeypatch.setenv('RANK_TABLE_FILE', put(tmp_path, table(1, 2)))
    monkeypatch.setenv('RANK_SIZE', '2')
    with pytest.raises(
        tf.errors.InternalError, match="Initialize ge failed[^$]*Can't find rank_id"
    ):
        npu_session().run(work)
    assert "Can't find rank_id" in dies(lambda: first.run(start))


def check_one_process_per_device(npu_session):
    path = os.path.join(environment.root(), 'device_0.lock')
    child = os.fork()
    if not child:
        rendezvous._held.append(rendezvous.lock(path))
        time.sleep(60)
        os._exit(0)
    while rendezvous.holder(path) != child:
        time.sleep(0.01)
    with pytest.raises(tf.errors.InternalError, match='device 0 is in use by process %d' % child):
        npu_session().run(tf.constant(1) + 1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert npu_session().run(tf.constant(1) + 1) == 2


def check_missing_rank(monkeypatch, tmp_path, npu_session):
    pytest.importorskip('horovod.tensorflow')
    for name, value in (
        ('RANK_TABLE_FILE', put(tmp_path, table(1, 2))),
        ('RANK_SIZE', '2'),
        ('RANK_ID', '1'),
        ('DEVICE_ID', '1'),
        ('ASCEND_SIM_CONNECT_TIMEOUT', '0.3'),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(tf.errors.InternalError, match='EI0006[^$]*1 of 2 ranks'):
        npu_session().run(tf.constant(1) + 1)
    monkeypatch.setenv('RANK_SIZE', '4')
    with pytest.raises(tf.errors.InternalError, match='RANK_SIZE=4, but .* has 2 ranks'):
        npu_session().run(tf.constant(1) + 1)


def check_split():
    set_split_strategy_by_idx([20, 100, 159])
    assert device.split['hccl_world_group'] == ('idx', [20, 100, 159])
    set_split_strategy_by_size([80, 20])
    set_split_strategy_by_idx([1])
    assert device.split['hccl_world_group'] == ('size', [80, 20])  # size wins
    for call, values, error in (
        (set_split_strategy_by_idx, [5, 5], RuntimeError),
        (set_split_strategy_by_idx, list(range(9)), RuntimeError),
        (set_split_strategy_by_idx, [-1], ValueError),
        (set_split_strategy_by_idx, (1,), TypeError),
        (set_split_strategy_by_idx, [], ValueError),
        (set_split_strategy_by_idx, [1.0], TypeError),
        (set_split_strategy_by_size, [90, 9], RuntimeError),
        (set_split_strategy_by_size, [10] * 10, RuntimeError),
        (set_split_strategy_by_size, ['90', '10'], TypeError),
    ):
        with pytest.raises(error, match='Allreduce split error' if error is RuntimeError else None):
            call(values)


def check_arguments_of_collectives():
    x = tf.zeros([4, 2])
    for call, error in (
        (lambda: hccl_ops.allreduce(tf.zeros([1], tf.float64), 'sum'), TypeError),
        (lambda: hccl_ops.broadcast(x, 0), TypeError),
        (lambda: hccl_ops.allreduce(x, 'avg'), NotImplementedError),
        (lambda: hccl_ops.allreduce(x, 'sum', group='unknown'), NotImplementedError),
        (lambda: hccl_ops.allreduce(x, 'sum', fusion=3), ValueError),
        (lambda: hccl_ops.broadcast([x], 1), ValueError),
        (lambda: hccl_ops.broadcast([x], 0, fusion=1), ValueError),
        (lambda: hccl_ops.allgather(x, 2), ValueError),
        (lambda: hccl_ops.allreduce(tf.Variable(1.0), 'sum'), ValueError),
    ):
        with pytest.raises(error):
            call()
    with tf.Session() as plain, pytest.raises(
        tf.errors.InternalError, match='no kernel on the host'
    ):
        plain.run(hccl_ops.allreduce(x, 'sum'))
