"""JSON text from a seeded generator: records, orders, events, configurations and answers of an API."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

_GIVEN = (
    "Ada Ben Clara David Elena Farid Grace Hugo Ines Jonas Kira Leo Mina Noah Olga Paul Rosa Vera".split()
)
_FAMILY = (
    "Adler Brown Costa Diaz Evans Fischer Gray Haddad Ito Jensen Klein Lopez Moore Novak Okoye Patel".split()
)
_CITIES = "Berlin Cairo Dublin Geneva Kyoto Lagos Lima Lisbon Madrid Oslo Porto Quito Riga Vienna".split()
_ITEMS = "apple basket candle desk envelope fountain garden hammer island jacket kettle lamp mirror".split()
_TAGS = "new sale red blue green small large fast slow daily local remote public private stable".split()
_STATES = "queued running done failed paused".split()
_KINDS = "login logout upload download update delete search payment".split()


def _name(rng: random.Random) -> str:
    return f"{rng.choice(_GIVEN)} {rng.choice(_FAMILY)}"


def _date(rng: random.Random) -> str:
    return f"20{rng.randint(10, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: random.Random) -> str:
    return f"{_date(rng)}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}Z"


def _person(rng: random.Random) -> dict[str, Any]:
    name = _name(rng)
    return {
        "id": rng.randint(1, 9999),
        "name": name,
        "email": name.lower().replace(" ", ".") + "@example.org",
        "age": rng.randint(18, 90),
        "city": rng.choice(_CITIES),
        "active": rng.random() < 0.7,
        "tags": rng.sample(_TAGS, rng.randint(0, 3)),
    }


def _order(rng: random.Random) -> dict[str, Any]:
    lines: list[dict[str, Any]] = [
        {"item": item, "quantity": rng.randint(1, 9), "price": round(rng.uniform(1, 200), 2)}
        for item in rng.sample(_ITEMS, rng.randint(1, 4))
    ]
    return {
        "order": rng.randint(1000, 99999),
        "customer": {"name": _name(rng), "city": rng.choice(_CITIES)},
        "date": _date(rng),
        "lines": lines,
        "total": round(sum(line["quantity"] * line["price"] for line in lines), 2),
        "paid": rng.random() < 0.5,
    }


def _event(rng: random.Random) -> dict[str, Any]:
    return {
        "time": _time(rng),
        "kind": rng.choice(_KINDS),
        "user": _name(rng),
        "duration_ms": rng.randint(1, 5000),
        "ok": rng.random() < 0.9,
        "error": None if rng.random() < 0.8 else "timeout",
    }


def _config(rng: random.Random) -> dict[str, Any]:
    return {
        "version": f"{rng.randint(0, 4)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}",
        "server": {"host": "localhost", "port": rng.randint(1024, 65535), "tls": rng.random() < 0.5},
        "limits": {"max_items": rng.choice([10, 50, 100, 500]), "timeout_s": rng.choice([1.5, 5, 30, 60])},
        "features": {tag: rng.random() < 0.5 for tag in rng.sample(_TAGS, rng.randint(1, 4))},
    }


def _answer(rng: random.Random) -> dict[str, Any]:
    results = [
        {
            "id": rng.randint(1, 999),
            "title": f"{rng.choice(_TAGS)} {rng.choice(_ITEMS)}",
            "score": round(rng.random(), 3),
        }
        for _ in range(rng.randint(0, 5))
    ]
    return {"status": "ok", "count": len(results), "results": results, "next": None}


def _job(rng: random.Random) -> dict[str, Any]:
    return {
        "job": f"{rng.choice(_ITEMS)}-{rng.randint(1, 99)}",
        "state": rng.choice(_STATES),
        "progress": round(rng.random(), 2),
        "started": _time(rng),
        "steps": [
            {"name": kind, "state": rng.choice(_STATES)} for kind in rng.sample(_KINDS, rng.randint(1, 4))
        ],
    }


_MAKERS: tuple[Callable[[random.Random], dict[str, Any]], ...] = (
    _person,
    _order,
    _event,
    _config,
    _answer,
    _job,
)


def make_records(*, seed: int, total_bytes: int) -> list[str]:
    """JSON documents of `total_bytes` or a little more, the same for the same seed.

    One in three is a list of like records; half are indented, the others are on one line.
    """
    rng = random.Random(seed)
    documents: list[str] = []
    size_bytes = 0
    while size_bytes < total_bytes:
        maker = rng.choice(_MAKERS)
        value: object = maker(rng) if rng.random() < 2 / 3 else [maker(rng) for _ in range(rng.randint(2, 4))]
        document = json.dumps(value, indent=2 if rng.random() < 0.5 else None) + "\n"
        documents.append(document)
        size_bytes += len(document)
    return documents
