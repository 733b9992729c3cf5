"""Every row of the table "Faults" in README.md has tests."""

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
        'common/test_errors.py::test_sigterm_removes_what_is_half_done',
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
    ],
    'a damaged record': [
        'common/data/test_records.py::test_corrupt_payload',
        'common/data/test_records.py::test_more_corrupt_records_than_allowed',
    ],
    'a damaged or incomplete archive': [
        'wideresnet_tf/test_prepare_cifar.py::test_an_archive_that_ends_early_is_not_whole',
        'campaign/test_campaign.py::test_cases_of_a_fixed_seed',
    ],
    'other data': [TRAINING + 'test_resume.py::test_other_records_are_named_like_a_changed_key'],
    'ranks with other': [
        TRAINING + 'test_agreement.py::test_a_difference_names_rank_key_and_both_values'
    ],
    'a rank fails': [
        'hccl/test_processes.py::test_the_first_that_fails_ends_all_and_is_explained',
        'hccl/test_processes.py::test_nothing_survives_a_killed_launcher',
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
        'common/configuration/test_config.py::test_mistakes_on_the_command_line',
        'common/configuration/test_config.py::test_options_without_effect_are_reported',
    ],
}


def test_every_fault_has_tests():
    page = (ROOT.parent / 'README.md').read_text()
    rows = re.findall(r'^\| (.*?) \|', page.split('## Faults')[1].split('##')[0], re.M)[1:]
    assert len(rows) == len(TESTS)
    assert all(row.startswith(begin) for row, begin in zip(rows, TESTS))
    for name in [name for names in TESTS.values() for name in names]:
        file, function = name.split('::')
        assert 'def %s(' % function in (ROOT / file).read_text(), name
