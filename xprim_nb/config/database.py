"""The address of the checkpoints' database: checked before anybody connects, and fit to be shown.

libpq's own messages about an address that it cannot read repeat parts of it, a password's among them: what it would
stumble over is refused here.

Source: spec 6 §Checkpoints (`XPRIM_DATABASE_URL`); libpq's manual, §Connection URIs.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

from xprim_nb.errors import ConfigError

__all__ = [
    "POSTGRES",
    "SQLITE",
    "check_database_url",
    "database_password",
    "is_here",
    "mask_database_url",
]

POSTGRES = ("postgresql://", "postgres://")
SQLITE = "sqlite:///"

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED = (
    "In a user or a password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %."
)
_EXAMPLE = "Write postgresql://user:password@host/database, or sqlite:///path/to/a/file."
# Parameters that say where and how, and nothing that is secret; of any other the name alone is shown.
_SHOWN = frozenset(
    {
        *("host", "hostaddr", "port", "dbname", "user", "sslmode", "channel_binding", "connect_timeout"),
        *("application_name", "target_session_attrs"),
    }
)


def mask_database_url(url: str) -> str:
    """The address with all that may be secret replaced by `***`, wherever it stands, even in one that cannot work.

    >>> mask_database_url("postgresql://ann:p/w@db.example/notes?sslmode=require&password=pw")
    'postgresql://ann:***@db.example/notes?sslmode=require&password=***'
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "***"
    before, at, where = url[scheme.end() :].rpartition("@")
    user, colon, password = before.partition(":")
    if not at:
        user, shown = "", ""
    elif not colon and scheme[0].lower() not in POSTGRES:
        user, shown = "***", "@"  # of a server that we do not know, a name alone may be a token
    else:
        shown = ":***@" if password else "@"
    place, question, query = where.partition("?")
    return f"{scheme[0]}{user}{shown}{place}{question}{'&'.join(map(_masked, query.split('&')))}"


def database_password(url: str) -> str:
    """The password in an address, as it is written there; empty when there is none."""
    _, _, after = url.partition("://")
    before, at, where = after.rpartition("@")
    if at and ":" in before:
        return before.partition(":")[2]
    pairs = (each.partition("=") for each in where.partition("?")[2].split("&"))
    return next((value for name, _, value in pairs if name == "password"), "")


def is_here(url: str) -> bool:
    """True for a file, a socket of this machine, and its loopback names and addresses.

    >>> is_here("postgresql://localhost:5432/notes"), is_here("postgresql://db.example/notes")
    (True, False)
    """
    if not url.startswith(POSTGRES):
        return True
    place, _, query = url.partition("://")[2].partition("?")
    pairs = [each.partition("=") for each in query.split("&")]
    hosts = [host for name, _, value in pairs if name in ("host", "hostaddr") for host in value.split(",")]
    for host in place.partition("/")[0].rpartition("@")[2].split(","):
        hosts.append(host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0])
    return all(_is_here(unquote(host)) for host in hosts)


def check_database_url(url: str, subject: str) -> None:
    """Return when a database may be there.

    Args:
        url: `postgresql://…`, `postgres://…` or `sqlite:///…`.
        subject: What the setting is called.

    Raises:
        ConfigError: There cannot; neither its message nor its hint repeats a password.
    """
    if url.startswith(SQLITE):
        if url == SQLITE:
            raise ConfigError(f"{subject} names no file.", subject=subject, hint=_EXAMPLE)
        return
    if not url.startswith(POSTGRES):
        scheme = _SCHEME.match(url)
        begins = f"begins with {scheme[0]}" if scheme else "is no URL"
        raise ConfigError(
            f"{subject} {begins}, and must be of PostgreSQL or SQLite.", subject=subject, hint=_EXAMPLE
        )
    trouble = _trouble(url.partition("://")[2])
    if trouble:
        raise ConfigError(f"{subject} {trouble}.", subject=subject, hint=_ENCODED)


def _trouble(rest: str) -> str:
    """What libpq would stumble over, or take for something else than was meant; empty when nothing.

    1. An `@` that is none of the first part: a password's `/`, `?` or `#` has ended it.
    2. Two in it. 3. A `%` that begins no character. 4. A port that is no number.
    """
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if rest.count("@") > place.count("@") or place.count("@") > 1:
        return "holds an @, /, ? or # in its user or password"
    if _BAD_PERCENT.search(rest):
        return "holds a % that begins no character"
    for host in place.rpartition("@")[2].split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            return "has a port that is no number from 1 to 65535"
    return ""


def _is_here(host: str) -> bool:
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _masked(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if not parameter or (equals and name in _SHOWN):
        return parameter
    return f"{name}=***" if equals else "***"
