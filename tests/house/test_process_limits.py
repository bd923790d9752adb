"""The process of the tests has no limits that would stop the nodes of other tests."""

import resource

import pytest


def test_no_test_limits_the_size_of_files_for_all() -> None:
    """A test that does so fails. A store whose file may not grow would stop for good."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(AssertionError, match="in_own_process"):
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
