"""Every row of the table "Faults" in README.md and every item of SECURITY.md has tests."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent
TRAINING = 'common/training/'
# The first words of a row: its tests, FILE::FUNCTION.
TESTS = {
    'the process is killed': [
        TRAINING
        + 'test_train.py::test_killed_and_stopped_run_ends_in_the_weights_of_one_that_was_not',
        TRAINING + 'test_resume.py::test_an_evaluation_that_a_kill_has_cost_is_made_up',
        'common/test_files.py::test_the_next_writer_removes_what_a_killed_one_left',
    ],
    'SIGTERM': [
        TRAINING + 'test_stop.py::test_a_signal_ends_training_after_the_step_and_a_checkpoint',
        TRAINING + 'test_stop.py::test_a_second_signal_kills',
        'common/test_signals.py::test_sigterm_removes_what_is_half_done',
    ],
    'a checkpoint is damaged': [
        TRAINING + 'test_resume.py::test_a_damaged_checkpoint_is_skipped_and_kept'
    ],
    'no checkpoint of a run': [
        TRAINING
        + 'test_resume.py::test_a_folder_whose_checkpoints_are_gone_is_refused_and_left_alone',
        TRAINING + 'test_resume.py::test_restart_moves_the_run_aside',
    ],
    'a second run': [
        TRAINING
        + 'test_run_lock.py::test_a_second_process_is_refused_and_told_who_holds_the_folder'
    ],
    'full disk': [
        'common/test_errors.py::test_an_error_of_the_machine_is_one_line',
        'common/test_files.py::test_an_error_leaves_the_old_file_and_nothing_else',
        'common/test_files.py::test_a_folder_is_never_replaced',
        TRAINING + 'test_saver.py::test_a_folder_that_disappears_is_named',
        TRAINING + 'test_run_lock.py::test_a_folder_that_disappears_takes_its_lock_along',
    ],
    'a damaged record': [
        'common/data/test_damaged_records.py::test_corrupt_payload',
        'common/data/test_damaged_records.py::test_more_corrupt_records_than_allowed',
    ],
    'a damaged or incomplete archive': [
        'wideresnet_tf/test_prepare_cifar_faults.py::test_an_archive_that_is_not_whole',
        'campaign/test_campaign.py::test_cases_of_a_fixed_seed',
    ],
    'other data': [TRAINING + 'test_resume.py::test_other_records_are_named_like_a_changed_key'],
    'ranks with other': [
        TRAINING + 'test_agreement.py::test_a_difference_names_rank_key_and_both_values'
    ],
    'a rank fails': [
        'hccl/test_processes.py::test_the_first_that_fails_ends_all_and_is_explained',
        'hccl/test_process_signals.py::test_nothing_survives_a_killed_launcher',
    ],
    'loss or weights': [
        TRAINING + 'test_progress.py::test_a_loss_that_is_not_finite_stops',
        TRAINING + 'test_saver.py::test_weights_that_are_not_finite_are_not_saved',
    ],
    "the network's output": [
        'offline_inference/test_not_finite.py::test_evaluation',
        'offline_inference/test_not_finite.py::test_predictions',
        'offline_inference/test_not_finite.py::test_export',
        'offline_inference/test_not_finite.py::test_scores_of_results',
    ],
    'exported files': [
        'offline_inference/test_bins.py::test_batches_that_are_not_all_there',
        'offline_inference/test_msame.py::test_changed_results_are_not_reused',
    ],
    'an unknown': [
        'common/configuration/test_config_mistakes.py::test_mistakes_on_the_command_line',
        'common/configuration/test_config_mistakes.py::test_options_without_effect_are_reported',
    ],
}

CIFAR = 'wideresnet_tf/test_prepare_cifar_faults.py::'
MODELARTS = 'common/data/test_modelarts.py::'
# The same of an item of SECURITY.md; [] for advice.
SECURITY = {
    'Data run no code': [
        'test_security.py::test_a_recipe_runs_no_code',
        'test_security.py::test_arrays_are_plain',
        'common/test_import_weights.py::torch_holds',
        CIFAR + 'test_an_archive_cannot_run_code',
        CIFAR + 'test_an_archive_cannot_hold_objects',
    ],
    'Models are programs': [],
    'Archives': [
        CIFAR + 'test_wrong_md5',
        MODELARTS + 'test_names_in_a_zip_cannot_leave_its_folder',
        'test_security.py::test_what_the_product_never_calls',
    ],
    'No command': ['test_security.py::test_what_the_product_never_calls'],
    'Names in data': ['common/reporting/test_html_page.py::test_names_are_text'],
    'Copies and caches': [
        MODELARTS + 'test_the_cache_is_private',
        'test_security.py::test_the_cache_of_checked_records_is_private',
    ],
    '`setup.sh`': [
        'scripts/test_requirements.py::test_every_package_is_pinned_once',
        'scripts/test_setup_python.py::test_download_of_python_is_verified',
    ],
    '`hccl.launch`': [],
    'Nothing is sent': ['test_security.py::test_what_the_product_never_calls'],
}


def require_tests(rows, tests):
    """Fails unless the rows begin with the keys of `tests`, whose functions exist."""
    assert len(rows) == len(tests)
    assert all(row.startswith(begin) for row, begin in zip(rows, tests))
    for name in [name for names in tests.values() for name in names]:
        file, function = name.split('::')
        assert 'def %s(' % function in (ROOT / file).read_text(), name


def test_every_fault_has_tests():
    page = (ROOT.parent / 'README.md').read_text().split('## Faults')[1].split('##')[0]
    require_tests(re.findall(r'^\| (.*?) \|', page, re.M)[1:], TESTS)


def test_every_item_of_security_has_tests():
    page = (ROOT.parent / 'SECURITY.md').read_text()
    require_tests(re.findall(r'^- (.*)', page, re.M), SECURITY)
