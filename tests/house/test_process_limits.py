"""The process of the tests has no limits that would stop the nodes of other tests."""

import resource

import pytest


def test_no_test_limits_the_size_of_files_for_all() -> None:
    """A test that limits the size of files of the whole process fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(AssertionError, match="in_own_process"):
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
