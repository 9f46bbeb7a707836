"""Secrets leave a mark; what only looks like one stays."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import xprim_nb
from xprim_nb.prompts.redaction import Redactor

_KEY = b"k" * 32
_PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7\n-----END RSA PRIVATE KEY-----"

# kind, text, what must be gone. Split where a scanner of repositories would take an example for a leak.
_SECRETS = [
    ("openai", "key sk-proj-" + "a1B2c3D4e5F6g7H8i9J0k1L2 end", "a1B2c3D4e5F6g7H8i9J0k1L2"),
    ("openai", "sk-" + "0123456789abcdefABCDEF0123456789", "0123456789abcdefABCDEF0123456789"),
    ("anthropic", "sk-ant-api03-" + "AbCdEfGhIjKlMnOpQrSt_uv-wx", "AbCdEfGhIjKlMnOpQrSt"),
    ("github", "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345", "0123456789abcdefghij"),
    ("github", "gho_" + "0123456789abcdefghijABCDEFGHIJ012345", "0123456789abcdefghij"),
    ("github", "github_pat_" + "11ABCDEFG0abcdefghijkl_0123456789", "11ABCDEFG0abcdefghijkl"),
    ("aws", "id=AKIA" + "IOSFODNN7EXAMPLE,", "IOSFODNN7EXAMPLE"),
    ("google", "AIza" + "SyA0123456789abcdefghijklmnopqrstuv", "SyA0123456789"),
    ("slack", "xoxb-" + "123456789012-abcdefGHIJKL", "123456789012"),
    ("huggingface", "hf_" + "abcdefghijKLMNOPQRSTuvwxyzABCDEFGH", "abcdefghijKLMNOPQRST"),
    (
        "jwt",
        "t=eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "hbGciOiJIUzI1NiJ9",
    ),
    ("private-key", _PEM, "MIIEpAIBAAKCAQEA"),
    ("private-key", _PEM.partition("-----END")[0], "MIIEpAIBAAKCAQEA"),
    ("authorization", "Authorization: Bearer abcDEF123456", "abcDEF123456"),
    ("authorization", "curl -H 'authorization: Basic dXNlcjpodW50ZXIy'", "dXNlcjpodW50ZXIy"),
    ("authorization", "sent Bearer 0123456789abcdef0123456789", "0123456789abcdef0123456789"),
    ("url", "postgres://app:s3cr3tpw@db.internal:5432/x", "s3cr3tpw"),
    ("assignment", "DB_PASSWORD=hunter22", "hunter22"),
    ("assignment", "export api_key=a1b2c3d4e5", "a1b2c3d4e5"),
    ("assignment", "https://x.test/?a=1&client_secret=abc123def", "abc123def"),
    ("assignment", 'password = "correct-horse"', "correct-horse"),
    ("assignment", '{"api_key": "zyxwvuts"}', "zyxwvuts"),
    ("assignment", r'"{\"api_key\": \"zyxwvuts\"}"', "zyxwvuts"),
    ("assignment", "const dbPassword = 'tr0ub4dor'", "tr0ub4dor"),
    ("assignment", "İ: MYSECRET='tr0ub4dor' ", "tr0ub4dor"),
    ("assignment", "auth:\n  password: hunter22\n", "hunter22"),
]

_CLEAN = [
    "Write a function that checks a password and returns a token.",
    "password: str = Field(min_length=8)",
    "def login(user: str, password: str | None = None, api_key: str = '') -> Token: ...",
    "client = OpenAI(api_key=os.environ['OPENAI_API_KEY'])",
    "connect(user, password=password, secret_key=settings.secret1)",
    "password = getpass.getpass()",
    "token = tokenizer.decode(ids)",
    'api_key = "<your key here>"',
    'api_key = "YOUR_API_KEY"',
    'password = "********"',
    "api_key: ${API_KEY}",
    "Authorization: Bearer $TOKEN",
    "Authorization: Bearer <token>",
    "git clone https://github.com/psf/requests.git",
    "https://user@example.com/path and ssh://git@host:22/x",
    "postgres://user:password@localhost/db",
    "sk-fading-circle-container-element",
    "task-0123456789abcdef0123456789abcdef",
    "the desk-lamp risk-assessment-report-for-2024-and-later",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "123e4567-e89b-12d3-a456-426614174000",
    "hf_transformers_loading and hf_hub_download",
    "AKIAN is a word, and so is ASIAN.",
    "max_tokens=4096, key=value1234, monkey=banana12, keyboard: qwerty123",
    "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD9\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "eyJ is how a JSON object begins in base64.",
    "if (password === 'undefined') { reset(); }",
    'hostile = {"/etc/passwd": "absolute", "secret": "../secret"}',
    "topsecret = 'not a name of ours'; filesecret: 'abcdefgh'",
    "The bearer of this letter is 20 years old.",
]


@pytest.mark.parametrize(("kind", "text", "secret"), _SECRETS)
def test_each_shape_is_found(kind: str, text: str, secret: str) -> None:
    """The secret is gone, its kind is said, and what stands around it stays."""
    clean = Redactor(_KEY).text(text)
    assert secret not in clean
    assert re.search(rf"\[redacted:{kind}:[0-9a-f]{{8}}\]", clean)
    assert Redactor().text(text) == re.sub(r"(\[redacted:[a-z-]+):[0-9a-f]{8}\]", r"\1]", clean)


@pytest.mark.parametrize("text", _CLEAN)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    """Code that handles secrets, placeholders, hashes, public keys, ordinary words."""
    assert Redactor(_KEY).text(text) == text


def test_our_own_source_is_clean() -> None:
    """Two hundred modules that handle keys, tokens and passwords are read as they are, but for four that show one."""
    redact = Redactor(_KEY)
    paths = sorted(Path(xprim_nb.__file__).parent.rglob("*.py"))
    assert len(paths) > 100
    changed = [path.name for path in paths if redact.text(text := path.read_text(encoding="utf-8")) != text]
    # Examples of passwords in URLs, of a token, and a password that a test suite looks for in a log.
    assert changed == ["masking.py", "postgres_database.py", "redaction.py", "source_contract.py"]


def test_the_same_secret_leaves_the_same_mark() -> None:
    """What depends on it stays equal; another secret, or another key, leaves another."""
    one = "ghp_" + "a" * 36
    two = "ghp_" + "b" * 36
    redact = Redactor(_KEY)
    first, second, third = redact.text(f"{one} {two} {one}").split()
    assert first == third != second
    assert Redactor(b"other" * 8).text(one) != first


def test_known_values_are_found_anywhere() -> None:
    """A value of the environment has no shape; the longer goes first, and the short ones are words."""
    redact = Redactor(_KEY, {"A": "blue-whale", "B": "blue-whale-song", "C": "prod"})
    clean = redact.text("prod: xblue-whale-songx blue-whale")
    assert "whale" not in clean
    assert clean.startswith("prod: x[redacted:env:")
    assert len(set(re.findall(r"\[redacted:env:[0-9a-f]{8}\]", clean))) == 2


def test_json_is_cleaned_through_and_through() -> None:
    """In lists, in keys, and under keys that say what they hold."""
    secret = "ghp_" + "a" * 36
    clean = Redactor(_KEY).json(
        {
            "list": [secret, 1, None, True, 2.5],
            secret: {"password": "x9", "dbPassword": "y8", "password_hint": "the dog"},
            "secret": 7,
        }
    )
    text = repr(clean)
    assert secret not in text
    assert "x9" not in text
    assert "y8" not in text
    assert "the dog" in text
    assert clean["secret"] == 7
    assert clean["list"][1:] == [1, None, True, 2.5]


def test_two_secret_keys_stay_two_entries() -> None:
    """Without digits in the marks both would be one, and one would be lost."""
    clean = Redactor().json({"ghp_" + letter * 36: letter for letter in "abc"})
    assert sorted(clean.values()) == ["a", "b", "c"]


def test_a_schema_that_names_a_password_is_no_secret() -> None:
    """A field called so is described, not filled."""
    schema = {
        "type": "object",
        "properties": {"password": {"type": "string"}, "api_key": {"description": "yours"}},
    }
    assert Redactor(_KEY).json(schema) == schema


@pytest.mark.parametrize(("kind", "text", "secret"), _SECRETS)
def test_twice_is_once(kind: str, text: str, secret: str) -> None:
    """What was redacted is left alone, also where it stands behind `password=`."""
    redact = Redactor(_KEY)
    once = redact.text(text)
    assert redact.text(once) == once
    inside = redact.text(f'password = "{once}"')
    assert redact.text(inside) == inside


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """Nothing raises, and cleaning again changes nothing."""
    redact = Redactor(_KEY)
    once = redact.text(text)
    assert redact.text(once) == once


def test_a_long_text_is_quick() -> None:
    """No pattern takes more than linear time: 128 KiB of near misses are done well within the test's limit."""
    pieces = [
        "password",
        "password=",
        "a-",
        "a.",
        "://x:",
        "sk-",
        "xoxb-",
        "eyJaaaaaaaa.",
        "-----BEGIN PRIVATE KEY",
        "Bearer  ",
    ]
    for piece in pieces:
        text = piece * ((1 << 17) // len(piece)) + "secret"
        assert len(Redactor(_KEY).text(text)) > 0
