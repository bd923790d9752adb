"""Names and scopes of secrets."""

import pytest

from sealspace.errors import InvalidSecretName, InvalidSecretScope
from sealspace.secrets import list_prefix, parse_secret_name


@pytest.mark.parametrize(
    ("name", "scope", "vault_key"),
    [
        ("FIREFLIES_API_KEY", None, "secrets/FIREFLIES_API_KEY"),
        ("A", "listen", "secrets/scoped/listen/A"),
        ("A", " My App!! ", "secrets/scoped/my-app/A"),
        ("A", "--x--", "secrets/scoped/x/A"),
        ("A", "Über_Scope", "secrets/scoped/ber-scope/A"),
        (" TRIM ", None, "secrets/TRIM"),
    ],
)
def test_a_name_and_a_scope_give_a_vault_key_and_a_path(
    name: str, scope: str | None, vault_key: str
) -> None:
    """A name and a scope give the vault key and the path of the specification's examples."""
    parsed = parse_secret_name(name, scope=scope)
    assert vault_key == parsed.vault_key
    assert f"vault/{vault_key}" == parsed.path


@pytest.mark.parametrize("name", ["a", "", "1A", "A-B", "A B", "A\nB", "Ä", "_A"])
def test_other_names_are_refused(name: str) -> None:
    """A name outside the pattern is refused with the convention's text."""
    with pytest.raises(InvalidSecretName) as refusal:
        parse_secret_name(name)
    assert (
        f'Invalid secret name "{name}". Secret names must match ^[A-Z][A-Z0-9_]*$.'
        == refusal.value.message
    )


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        ("   ", "Secret scope must be non-empty; omit scope for global secrets."),
        ("!!", "Secret scope must contain at least one letter or number."),
        ("default", 'Secret scope "default" is reserved; omit scope for global secrets.'),
        ("Global", 'Secret scope "Global" is reserved; omit scope for global secrets.'),
    ],
)
def test_scopes_that_mean_nothing_are_refused(scope: str, text: str) -> None:
    """Empty, reserved and unusable scopes are refused."""
    with pytest.raises(InvalidSecretScope) as refusal:
        parse_secret_name("A", scope=scope)
    assert text == refusal.value.message


@pytest.mark.parametrize(
    ("scope", "prefix"), [(None, "vault/secrets/"), ("X Y", "vault/secrets/scoped/x-y/")]
)
def test_listing_names_exactly_one_level(scope: str | None, prefix: str) -> None:
    """A grant to list secrets names exactly the prefix that listing requests."""
    assert prefix == list_prefix(scope)
