"""The tree of settings."""

from node.cli.config import description_of
from node.config.tree import setting_types


def test_every_setting_is_documented() -> None:
    """Every setting has a sentence that ends with a full stop."""
    assert [
        path for path, kind in setting_types().items() if not description_of(kind).endswith(".")
    ] == []
    assert {"release.attestation", "http.port"} <= setting_types().keys()
