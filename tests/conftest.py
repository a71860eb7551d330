"""Set-up for all tests."""

import signal

import pytest

# An assertion that fails within a shared helper module shows its values, as one in a test does.
pytest.register_assert_rewrite("data_files", "kernel_checks", "tiny_demo")

# A shell that starts the tests in the background has them, and the programs they start, ignore
# Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)
