"""The variables that place a process in a job on Ascend."""

import pytest

from common.ascend import environment
from common.errors import UserError

CM = dict(
    CM_CHIEF_IP='10.0.0.1',
    CM_CHIEF_PORT='29688',
    CM_CHIEF_DEVICE='0',
    CM_WORKER_SIZE='16',
    CM_WORKER_IP='10.0.0.2',
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / 'table.json'
    path.write_text('{}')
    return str(path)


def test_one_device_needs_no_variable(table):
    assert environment.read_rank({}) == (0, 1)
    assert environment.read_rank({'HCCL_CONNECT_TIMEOUT': '120'}) == (0, 1)
    assert environment.read_rank({'RANK_TABLE_FILE': table, 'RANK_ID': '0', 'RANK_SIZE': '1'}) == (
        0,
        1,
    )


def test_several_devices(table):
    assert environment.read_rank(
        {'RANK_TABLE_FILE': table, 'RANK_ID': '5', 'RANK_SIZE': '8', 'HCCL_CONNECT_TIMEOUT': '7200'}
    ) == (5, 8)
    assert environment.read_rank(CM) == (-1, 16)  # the rank comes from HCCL
    assert environment.read_rank(dict(CM, CM_WORKER_SIZE='1')) == (0, 1)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(RANK_SIZE='0'), 'RANK_SIZE=0'),
        (dict(RANK_SIZE=''), 'RANK_SIZE=: give a whole number'),
        (dict(RANK_SIZE='-2'), 'RANK_SIZE=-2: give a whole number, 0 or more'),
        (dict(RANK_SIZE='eight'), 'RANK_SIZE=eight: give a whole number'),
        (dict(RANK_ID='8'), 'RANK_ID=8: with RANK_SIZE=8 legal are 0 to 7'),
        (dict(RANK_ID='npu8p'), 'RANK_ID=npu8p: give a whole number'),
        (dict(RANK_ID=None), 'RANK_ID is not; python -m hccl.launch'),
        (
            dict(RANK_TABLE_FILE=None),
            'RANK_SIZE=8 but RANK_TABLE_FILE is not set; python -m hccl.launch',
        ),
        (
            dict(RANK_TABLE_FILE='/no/such.json'),
            'RANK_TABLE_FILE=/no/such.json: no such file; python -m hccl.rank_table',
        ),
        (dict(DEVICE_ID='one'), 'DEVICE_ID=one: give a whole number'),
        (dict(ASCEND_DEVICE_ID='-1'), 'ASCEND_DEVICE_ID=-1: give a whole number'),
        (dict(HCCL_CONNECT_TIMEOUT='119'), 'HCCL_CONNECT_TIMEOUT=119: legal are 120 to 7200'),
        (dict(HCCL_CONNECT_TIMEOUT='7201'), 'HCCL_CONNECT_TIMEOUT=7201'),
        (dict(HCCL_CONNECT_TIMEOUT='10m'), 'HCCL_CONNECT_TIMEOUT=10m'),
        (dict(TF_CONFIG='{"cluster": {"ps": ["a:1"]}}'), 'TF_CONFIG names a cluster'),
    ],
)
def test_each_wrong_setting_is_named(table, change, message):
    env = dict({'RANK_TABLE_FILE': table, 'RANK_ID': '0', 'RANK_SIZE': '8'}, **change)
    with pytest.raises(UserError) as error:
        environment.read_rank({name: value for name, value in env.items() if value is not None})
    assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
    'change, message',
    [
        (
            dict(RANK_TABLE_FILE='t.json'),
            'CM_CHIEF_IP and RANK_TABLE_FILE cannot be set at the same time',
        ),
        (dict(RANK_ID='0'), 'CM_CHIEF_IP and RANK_ID cannot be set at the same time'),
        (dict(RANK_SIZE='16'), 'CM_CHIEF_IP and RANK_SIZE cannot be set at the same time'),
        (
            dict(RANK_SIZE=''),
            'CM_CHIEF_IP and RANK_SIZE cannot be set at the same time',
        ),  # the adapter takes an empty one for set
        (dict(CM_CHIEF_PORT='65521'), 'CM_CHIEF_PORT=65521: legal are 0 to 65520'),
        (dict(CM_WORKER_SIZE='many'), 'CM_WORKER_SIZE=many: give a whole number'),
        (dict(CM_WORKER_SIZE='0'), 'CM_WORKER_SIZE=0'),
        (dict(CM_CHIEF_DEVICE='first'), 'CM_CHIEF_DEVICE=first'),
        (dict(CM_CHIEF_DEVICE='16'), 'CM_CHIEF_DEVICE=16: legal are 0 to 15'),
        (dict(HCCL_CONNECT_TIMEOUT='5'), 'HCCL_CONNECT_TIMEOUT=5: legal'),
    ]
    + [({name: None}, name + ' missing: without a rank table all of') for name in CM],
)
def test_each_wrong_setting_without_a_table_is_named(change, message):
    env = {name: value for name, value in dict(CM, **change).items() if value is not None}
    with pytest.raises(UserError) as error:
        environment.read_rank(env)
    assert message in str(error.value) and '\n' not in str(error.value)


def test_a_container_numbers_its_devices_anew():
    """DEVICE_ID is the physical number, ASCEND_DEVICE_ID the logical one: they may differ."""
    assert environment.read_rank({'DEVICE_ID': '6', 'ASCEND_DEVICE_ID': '0'}) == (0, 1)


@pytest.mark.parametrize('job', ['1', 'a_B-9', '10', 'x0'])
def test_a_legal_job_id_is_kept(job):
    assert environment.job_id('unused', {'JOB_ID': job}) == job


@pytest.mark.parametrize('job', ['0', '007', 'a b', 'a.b', 'ä'])
def test_an_illegal_job_id_is_refused(job):
    with pytest.raises(UserError, match='JOB_ID=%s: legal are letters' % job):
        environment.job_id('unused', {'JOB_ID': job})


def test_a_job_without_an_id_gets_the_default():
    assert (
        environment.job_id('local1', {}) == environment.job_id('local1', {'JOB_ID': ''}) == 'local1'
    )
