"""Rank tables, environment variables, devices and the hccl package."""

import json
import os
import time

import pytest
import tensorflow.compat.v1 as tf
from ascend_sim import device, environment, rank_table, rendezvous
from ascend_sim.environment import Refused
from npu_bridge.estimator import npu_ops
from npu_bridge.estimator.npu import npu_plugin, util
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
                'host_nic_ip': 'reserve',
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


def old_table():
    return {
        'status': 'completed',
        'group_count': '1',
        'group_list': [
            {
                'group_name': 'hccl_world_group',
                'device_count': '2',
                'instance_count': '1',
                'instance_list': [
                    {
                        'pod_name': 'pod',
                        'server_id': '127.0.0.1',
                        'devices': [
                            {'device_id': '4', 'device_ip': '10.0.0.4'},
                            {'device_id': '1', 'device_ip': '10.0.0.1'},
                        ],
                    }
                ],
            }
        ],
    }


def lab_table():
    return {
        'status': 'completed',
        'deploy_mode': 'lab',
        'group_count': '1',
        'para_plane_nic_location': 'device',
        'group_list': [
            {
                'group_name': 'hccl_world_group',
                'device_num': '2',
                'server_num': '1',
                'instance_count': '2',
                'instance_list': [
                    {
                        'rank_id': str(rank),
                        'server_id': 's',
                        'devices': [{'device_id': str(rank), 'device_ip': '10.0.0.%d' % rank}],
                    }
                    for rank in (1, 0)
                ],
            }
        ],
    }


def put(tmp_path, content, name='rank_table.json'):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def check_rank_tables(tmp_path):
    ranks = rank_table.read(put(tmp_path, table(2, 4)))
    assert (
        [rank.device for rank in ranks] == [0, 1, 2, 3] * 2
        and ranks[5].server == 'server1'
        and ranks[5].ips == ['10.0.1.1']
    )
    assert [rank.device for rank in rank_table.read(put(tmp_path, old_table()))] == [1, 4]
    assert [rank.device for rank in rank_table.read(put(tmp_path, lab_table()))] == [0, 1]
    without_ip = table(1, 1)
    del without_ip['server_list'][0]['device'][0]['device_ip'], without_ip['server_count']
    assert rank_table.read(put(tmp_path, without_ip))[0].ips == []


def change(path, value):
    """A mistake: sets or (None) removes one entry of table(2, 2)."""

    def make():
        content = table(2, 2)
        where = content
        for key in path[:-1]:
            where = where[key]
        if value is None:
            del where[path[-1]]
        else:
            where[path[-1]] = value
        return content

    return make


FIRST = ('server_list', 0, 'device', 0)


@pytest.mark.parametrize(
    'text, content',
    [
        ('Ranktable version is not supported', change(('version',), '0.1')),
        ('property value of Name\\[version\\] is not string', change(('version',), 1.0)),
        ("The 'server_count' in ranktable is invalid.", change(('server_count',), '3')),
        ('property value of Name\\[rank_id\\] is not string', change(FIRST + ('rank_id',), 0)),
        (
            'The rank ID is used repeatedly or the rank ID exceeds the max rankId.',
            change(FIRST + ('rank_id',), '1'),
        ),
        (
            'The rank ID is used repeatedly or the rank ID exceeds the max rankId.',
            change(FIRST + ('rank_id',), '9'),
        ),
        ('device_id\\[8\\] more than 7 is invalid', change(FIRST + ('device_id',), '8')),
        ('device id repeat for one server', change(FIRST + ('device_id',), '1')),
        ('The IP is used repeatedly.', change(FIRST + ('device_ip',), '10.0.1.1')),
        (
            'The ip in ranktable is not a valid ip address',
            change(FIRST + ('device_ip',), '10.0.0.300'),
        ),
        ("The 'device_ip' in ranktable is not set", change(FIRST + ('device_ip',), None)),
        ('server_id', change(('server_list', 0, 'server_id'), 'server1')),
        ("Invalid ranktable format. 'server_list'", change(('server_list',), None)),
        ("'status'", change(('status',), 'done')),
        ('Invalid ranktable format', lambda: '{"status": "completed", // a comment\n}'),
    ],
)
def check_rank_table_refused(tmp_path, text, content):
    with pytest.raises(Refused, match='EI0004: The ranktable or rank is invalid,Reason:.*' + text):
        rank_table.read(put(tmp_path, content()))


def check_rank_table_more_refusals(tmp_path, monkeypatch):
    with pytest.raises(Refused, match='must end with .json'):
        rank_table.read(put(tmp_path, table(), 'table.txt'))
    uneven = table(2, 2)
    del uneven['server_list'][1]['device'][1]
    with pytest.raises(Refused, match='The devices num in ranktable is invalid'):
        rank_table.read(put(tmp_path, uneven))
    monkeypatch.setenv('ASCEND_SIM_CONNECT_TIMEOUT', '0.1')
    with pytest.raises(Refused, match='initializing'):
        rank_table.read(put(tmp_path, dict(table(), status='initializing')))


def check_own_rank(tmp_path, monkeypatch):
    path = put(tmp_path, table(1, 4))
    with pytest.raises(Refused, match="Can't find rank_id or pod_name in env."):
        rank_table.find(path, 2)
    monkeypatch.setenv('RANK_ID', '2')
    assert rank_table.find(path, 2)[1] == 2
    with pytest.raises(
        Refused, match='The ranktable config devId is inconsistent with the local devId.'
    ):
        rank_table.find(path, 3)
    monkeypatch.setenv('RANK_ID', '4')
    with pytest.raises(Refused, match='the ranktable has 4 ranks'):
        rank_table.find(path, 2)
    monkeypatch.setenv('RANK_ID', 'pod')
    assert rank_table.find(put(tmp_path, old_table(), 'old.json'), 4)[1] == 1


@pytest.mark.parametrize(
    'variables, text',
    [
        ({'HCCL_CONNECT_TIMEOUT': '60'}, 'EI0001.*HCCL_CONNECT_TIMEOUT=60.*\\[120, 7200\\]'),
        ({'HCCL_EXEC_TIMEOUT': '20000'}, 'EI0001'),
        ({'HCCL_RDMA_TC': '6'}, 'multiple of 4'),
        ({'HCCL_ALGO': 'ring'}, 'EI0001'),
        ({'HCCL_SOCKET_FAMILY': 'IPV4'}, 'AF_INET'),
        ({'JOB_ID': '01'}, 'JOB_ID'),
        ({'JOB_ID': 'a b'}, 'JOB_ID'),
    ],
)
def check_environment_refused(monkeypatch, variables, text):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=text):
        environment.check()


def check_environment(monkeypatch, dies):
    assert environment.device_id() == 0 and util.get_ranksize() == '1'
    monkeypatch.setenv('DEVICE_ID', '3')
    monkeypatch.setenv('ASCEND_DEVICE_ID', '5')
    assert environment.device_id() == 5 and environment.device_id(7) == 7
    monkeypatch.setenv('ASCEND_DEVICE_ID', 'x')
    assert 'ASCEND_DEVICE_ID is invalid, should be int, such as 0, 1, 2.' in dies(
        environment.device_id
    )
    monkeypatch.setenv('ASCEND_DEVICE_ID', '8')
    assert 'get logic device id' in dies(environment.device_id)
    monkeypatch.setenv('RANK_SIZE', '2')
    monkeypatch.setenv('CM_WORKER_SIZE', '2')
    with pytest.raises(
        ValueError, match='RANK_SIZE and CM_WORK_SIZE cannot be configured at the same time'
    ):
        util.get_ranksize()
    monkeypatch.setenv('CM_CHIEF_IP', '127.0.0.1')
    with pytest.raises(Refused, match='RANK_SIZE must not be set'):
        environment.cm_variables()
    monkeypatch.delenv('RANK_SIZE')
    with pytest.raises(Refused, match='CM_CHIEF_PORT, CM_CHIEF_DEVICE, CM_WORKER_IP'):
        environment.cm_variables()
    monkeypatch.setenv('RANK_TABLE_FILE', 'x.json')
    with pytest.raises(
        Refused, match='CM_CHIEF_IP and RANK_TABLE_FILE cannot be configured at the same time.'
    ):
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
    """get_rank_size before, during and after; the session that trains takes the device down with
    it.
    """
    with pytest.raises(RuntimeError, match='not initialised'):
        api.get_rank_size()
    start, stop, work = npu_ops.initialize_system(), npu_ops.shutdown_system(), tf.constant(1) + 1
    first = npu_session()
    first.run(start)
    assert (
        api.get_rank_size(),
        api.get_rank_id(),
        api.get_local_rank_size(),
        api.get_local_rank_id(),
    ) == (1, 0, 1, 0)
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


def check_resource_init(npu_session):
    npu_plugin.npu_resource_init()
    with npu_session() as session:
        session.run(tf.constant(1) + 1)
    assert api.get_rank_size() == 1  # outlives the session
    npu_plugin.npu_resource_shutdown()
    with pytest.raises(tf.errors.InternalError, match='npu_resource_shutdown'):
        npu_session().run(tf.constant(1) + 1)
    with pytest.raises(ValueError, match='profiling_options must be set when use profiling'):
        npu_plugin.npu_resource_init(enable_profiling=True)


def check_one_process_per_device(npu_session, tmp_path):
    os.makedirs(environment.root(), exist_ok=True)
    child = os.fork()
    if not child:
        rendezvous._held.append(rendezvous.lock(os.path.join(environment.root(), 'device_0.lock')))
        time.sleep(60)
        os._exit(0)
    while rendezvous.holder(os.path.join(environment.root(), 'device_0.lock')) != child:
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


def check_groups(monkeypatch):
    monkeypatch.setattr(device, '_initialised', True)
    monkeypatch.setattr(device, '_cluster', device.Cluster(5, 8, 5, 8))
    assert (api.get_rank_size(), api.get_rank_id()) == (8, 5)
    api.create_group('g', 4, [7, 4, 5, 6])
    assert (
        api.get_rank_size('g'),
        api.get_rank_id('g'),
        api.get_world_rank_from_group_rank('g', 3),
    ) == (4, 1, 7)
    assert api.get_group_rank_from_world_rank(6, 'g') == 2
    for ranks in ([2, 5], [1, 2], [5, 5], [5, 8]):  # across quads; without me; twice; too many
        with pytest.raises(RuntimeError):
            api.create_group('h', 2, ranks)
    api.destroy_group('g')
    with pytest.raises(RuntimeError):
        api.get_rank_size('g')


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
    with pytest.raises(ValueError, match='Group name'):
        set_split_strategy_by_size([100], 'g' * 128)


def check_collectives_arguments():
    x = tf.zeros([4, 2])
    with pytest.raises(TypeError, match='float64 not in list of allowed values'):
        hccl_ops.allreduce(tf.zeros([1], tf.float64), 'sum')
    for call in (
        lambda: hccl_ops.allreduce(x, 'avg'),
        lambda: hccl_ops.allreduce(x, 'sum', fusion=3),
        lambda: hccl_ops.allreduce(x, 'sum', 2),
        lambda: hccl_ops.broadcast([x], 1),
        lambda: hccl_ops.broadcast([x], 0, fusion=1),
        lambda: hccl_ops.allgather(x, 2),
        lambda: hccl_ops.allreduce(tf.Variable(1.0), 'sum'),
        lambda: hccl_ops.allreduce(x, 'sum', group='unknown'),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        hccl_ops.broadcast(x, 0)
    with tf.Session() as plain, pytest.raises(
        tf.errors.InternalError, match='no kernel on the host'
    ):
        plain.run(hccl_ops.allreduce(x, 'sum'))
    with pytest.raises(NotImplementedError, match='not modelled'):
        hccl_ops.send(x, 0, 0)
