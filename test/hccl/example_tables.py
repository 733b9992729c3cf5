"""Rank tables that HCCL takes, in each of its formats."""

from hccl.rank_table import generate, write


def device(server, number, **more):
    ip = '192.168.%d.%d' % (server, number + 1)
    return dict(device_id=str(number), device_ip=ip, **more)


def concise(servers=1, devices=8):
    """Servers with all their devices, version 1.0; ranks follow servers."""
    server_list = [
        {
            'server_id': '10.0.0.%d' % (server + 1),
            'device': [
                device(server, number, rank_id=str(server * devices + number))
                for number in range(devices)
            ],
        }
        for server in range(servers)
    ]
    return {
        'status': 'completed',
        'version': '1.0',
        'server_count': str(servers),
        'server_list': server_list,
    }


def cloud(instances=2, devices=4):
    """Groups with a pod for each server, in the opposite order of their addresses."""
    instance_list = [
        {
            'pod_name': 'pod%d' % index,
            'server_id': '10.0.0.%d' % (9 - index),
            'devices': [device(index, number) for number in reversed(range(devices))],
        }
        for index in range(instances)
    ]
    group = {
        'group_name': 'worker',
        'device_count': str(instances * devices),
        'instance_count': str(instances),
        'instance_list': instance_list,
    }
    return {'status': 'completed', 'group_count': '1', 'group_list': [group]}


def lab(devices=8):
    """Groups with an instance for each device."""
    instance_list = [
        {'rank_id': str(number), 'server_id': '10.0.0.1', 'devices': [device(0, number)]}
        for number in range(devices)
    ]
    group = {
        'group_name': '',
        'device_num': str(devices),
        'server_num': '1',
        'instance_count': str(devices),
        'instance_list': instance_list,
    }
    return {
        'status': 'completed',
        'deploy_mode': 'lab',
        'board_id': '0x0000',
        'group_count': '1',
        'para_plane_nic_location': 'device',
        'para_plane_nic_num': '8',
        'para_plane_nic_name': ['eth0'],
        'group_list': [group],
    }


def saved(path, server_id, third, devices=range(4)):
    """Writes the table of one server, whose addresses have this third number; returns the path."""
    ips = ['192.168.%d.%d' % (third, number) for number in devices]
    write(generate(list(devices), server_id, ips), str(path))
    return str(path)
