"""An assertion that fails within a shared helper module shows its values, as one in a test does."""

import pytest

pytest.register_assert_rewrite("data_files", "kernel_checks", "tiny_demo")
