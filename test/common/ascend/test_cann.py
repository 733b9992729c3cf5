"""What CANN has put on a disk, and the release of its adapter."""

from common.ascend import cann


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('')
    return str(path)


def test_generations_of_cann_are_told_by_their_scripts(tmp_path):
    root, home = tmp_path / 'local' / 'Ascend', tmp_path / 'home'

    def newest():
        return cann.installations(str(root), str(home))[0]

    assert cann.installations(str(root), str(home)) == []
    touch(root / 'fwkacllib' / 'x')
    assert newest() == ('CANN 20.x and older', str(root), [])
    five = touch(root / 'nnae' / 'set_env.sh')
    assert newest() == ('CANN 5', str(root), [five])
    six = touch(root / 'ascend-toolkit' / 'set_env.sh')
    plugin = touch(root / 'tfplugin' / 'set_env.sh')
    assert newest() == ('CANN 6 and newer', str(root), [six, plugin])
    own = touch(home / 'Ascend' / 'ascend-toolkit' / 'set_env.sh')
    assert cann.installations(str(root), str(home))[-1] == ('CANN 5', str(home / 'Ascend'), [own])


def test_version_of_the_driver(tmp_path):
    assert cann.driver_version(str(tmp_path)) == ''
    (tmp_path / 'driver').mkdir()
    (tmp_path / 'driver' / 'version.info').write_text('package=driver\nVersion=21.0.4\n')
    assert cann.driver_version(str(tmp_path)) == '21.0.4'


def run_configs():
    def r1_5_0(self, iterations_per_loop=1, modify_mixlist=None):
        pass

    def r1_7_0(self, modify_mixlist=None, device_type=None):
        pass

    def r1_11_0(
        self,
        modify_mixlist=None,
        device_type=None,
        soc_config=None,
        customize_dtypes=None,
        topo_sorting_mode=None,
        aoe_config_file=None,
    ):
        pass

    def master(
        self,
        modify_mixlist=None,
        aoe_config_file=None,
        deterministic=0,
        precision_mode_v2=None,
        ac_parallel_enable=None,
    ):
        pass

    def old(self, iterations_per_loop=1, mstune_mode=None):
        pass

    return [r1_5_0, r1_7_0, r1_11_0, master, old]


def test_releases_are_told_by_what_they_added():
    assert [cann.adapter_release(function) for function in run_configs()] == [
        'r1.5.0 or r1.6.0',
        'r1.7.0',
        'r1.11.0',
        'r1.15.0 or master',
        'older than r1.5.0: not supported',
    ]
