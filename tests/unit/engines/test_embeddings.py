from __future__ import annotations

import inspect
import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from running import answer, failure, items_of, run, vectors

from app.domain.items import ItemFailed, ItemSucceeded
from workers.engines.registry import EngineRegistry
from workers.engines.sentence_transformers import SentenceTransformersEngine

MODEL = "all-MiniLM-L6-v2"
LONG_TEXT = "night shift " * 400
TEXTS = [
    "A loan file is read at night and answered in the morning.",
    "a",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "夜勤の作業は朝までに終わります。",
    "🌙",
    " leading and trailing blanks ",
    inspect.getdoc(json.dumps) or "",
    *[f"sentence number {i} " * (1 + i % 7) for i in range(80)],
]


def _cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    products: NDArray[np.float32] = (ours * theirs).sum(axis=1)
    return products / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


def test_vectors_match_the_models_own_library_in_input_order(
    minilm: SentenceTransformersEngine, reference: Any
) -> None:
    outcomes = run(minilm, [{"model": MODEL, "input": text} for text in TEXTS], on_oversize="truncate")

    ours = np.concatenate([vectors(outcome) for outcome in outcomes])
    assert _cosines(ours, reference.encode(TEXTS)).min() >= 0.9999995
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_int8_is_close_but_not_the_same(engines: EngineRegistry, reference: Any) -> None:
    engine = engines.engine(model=MODEL, version="int8", endpoint="/v1/embeddings")

    outcomes = run(engine, [{"input": text} for text in TEXTS], on_oversize="truncate")

    cosines = _cosines(np.concatenate([vectors(o) for o in outcomes]), reference.encode(TEXTS))
    assert cosines.mean() > 0.97
    assert cosines.min() > 0.85
    assert cosines.max() < 0.99999


def test_the_answer_has_openais_shape(minilm: SentenceTransformersEngine) -> None:
    (outcome,) = run(minilm, [{"model": MODEL, "input": ["one", "two words"], "user": "u1"}])

    document = answer(outcome)
    assert isinstance(outcome, ItemSucceeded)
    assert (document["object"], document["model"]) == ("list", MODEL)
    assert [(entry["object"], entry["index"]) for entry in document["data"]] == [("embedding", 0), ("embedding", 1)]
    assert [len(entry["embedding"]) for entry in document["data"]] == [384, 384]
    assert document["usage"] == {"prompt_tokens": 7, "total_tokens": 7}  # [CLS] and [SEP] are counted
    assert (outcome.input_tokens, outcome.output_tokens) == (7, 0)


def test_many_inputs_in_one_item_keep_their_order(minilm: SentenceTransformersEngine, reference: Any) -> None:
    (outcome,) = run(minilm, [{"input": TEXTS}], on_oversize="truncate")

    assert _cosines(vectors(outcome), reference.encode(TEXTS)).min() >= 0.9999995


def test_token_ids_are_used_as_they_are(minilm: SentenceTransformersEngine, reference: Any) -> None:
    ids = [reference.tokenizer(text)["input_ids"] for text in ("one", "two words")]

    text_rows, id_rows, one_row = run(minilm, [{"input": ["one", "two words"]}, {"input": ids}, {"input": ids[0]}])

    assert np.allclose(vectors(text_rows), vectors(id_rows), atol=1e-6)
    assert np.allclose(vectors(one_row), vectors(id_rows)[:1], atol=1e-6)


def test_base64_holds_the_same_numbers_as_float(minilm: SentenceTransformersEngine) -> None:
    as_float, as_base64 = run(
        minilm, [{"input": "same", "encoding_format": "float"}, {"input": "same", "encoding_format": "base64"}]
    )

    assert isinstance(answer(as_base64)["data"][0]["embedding"], str)
    assert np.array_equal(vectors(as_float), vectors(as_base64))


def test_fewer_dimensions_are_the_first_ones_made_unit_length_again(minilm: SentenceTransformersEngine) -> None:
    whole, short = run(minilm, [{"input": "cut"}, {"input": "cut", "dimensions": 64}])

    expected = vectors(whole)[:, :64] / np.linalg.norm(vectors(whole)[:, :64])
    assert vectors(short).shape == (1, 64)
    assert np.allclose(vectors(short), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({}, "missing_required_parameter", "'input'"),
        ({"input": None}, "missing_required_parameter", "'input'"),
        ({"input": ""}, "invalid_request", "empty string"),
        ({"input": ["x", ""]}, "invalid_request", "empty string"),
        ({"input": []}, "invalid_request", "empty list"),
        ({"input": [[]]}, "invalid_request", "non-empty"),
        ({"input": 5}, "invalid_request", "'input'"),
        ({"input": {"text": "x"}}, "invalid_request", "'input'"),
        ({"input": ["x", 5]}, "invalid_request", "strings only"),
        ({"input": [5, "x"]}, "invalid_request", "token ids only"),
        ({"input": [True]}, "invalid_request", "token ids only"),
        ({"input": [1.5]}, "invalid_request", "token ids only"),
        ({"input": [[1], "x"]}, "invalid_request", "token ids"),
        ({"input": [30522]}, "invalid_request", "30521"),
        ({"input": [-1]}, "invalid_request", "-1"),
        ({"input": ["x"] * 2049}, "invalid_request", "2048"),
        ({"input": "\ud800"}, "invalid_request", "surrogate"),
        ({"input": "x", "encoding_format": "hex"}, "invalid_request", "'encoding_format'"),
        ({"input": "x", "encoding_format": 1}, "invalid_request", "'encoding_format'"),
        ({"input": "x", "dimensions": 0}, "invalid_request", "'dimensions'"),
        ({"input": "x", "dimensions": 385}, "invalid_request", "'dimensions'"),
        ({"input": "x", "dimensions": True}, "invalid_request", "'dimensions'"),
        ({"input": "x", "dimensions": "64"}, "invalid_request", "'dimensions'"),
        ({"input": "x", "user": 7}, "invalid_request", "'user'"),
        ({"input": "x", "temperature": 1}, "invalid_request", "'temperature'"),
        ({"input": LONG_TEXT}, "context_length_exceeded", "256"),
        ({"input": ["x", LONG_TEXT]}, "context_length_exceeded", "256"),
        ({"input": [101] * 257}, "context_length_exceeded", "257"),
    ],
)
def test_a_bad_body_fails_alone_and_says_what_is_wrong(
    minilm: SentenceTransformersEngine, body: dict[str, Any], code: str, named: str
) -> None:
    before, bad, after = run(minilm, [{"input": "before"}, body, {"input": "after"}])

    assert failure(bad).code == code
    assert named in failure(bad).message
    assert isinstance(before, ItemSucceeded)
    assert isinstance(after, ItemSucceeded)


def test_an_input_of_exactly_the_limit_runs(minilm: SentenceTransformersEngine) -> None:
    (outcome,) = run(minilm, [{"input": [101] * 256}])

    assert isinstance(outcome, ItemSucceeded)
    assert outcome.input_tokens == 256


def test_an_over_long_input_is_truncated_as_the_library_does(
    minilm: SentenceTransformersEngine, reference: Any
) -> None:
    (outcome,) = run(minilm, [{"input": LONG_TEXT}], on_oversize="truncate")

    assert isinstance(outcome, ItemSucceeded)
    assert outcome.input_tokens == 256
    assert _cosines(vectors(outcome), reference.encode([LONG_TEXT])).min() >= 0.9999995


def test_split_is_refused_for_now(minilm: SentenceTransformersEngine) -> None:
    (outcome,) = run(minilm, [{"input": LONG_TEXT}], on_oversize="split")

    assert failure(outcome).code == "invalid_request"


ODD_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.lists(
        st.fixed_dictionaries(
            {},
            optional={"input": ODD_VALUES, "encoding_format": ODD_VALUES, "dimensions": ODD_VALUES, "user": ODD_VALUES},
        ),
        max_size=8,
    )
)
def test_whatever_the_bodies_each_item_has_one_outcome(
    minilm: SentenceTransformersEngine, bodies: list[dict[str, Any]]
) -> None:
    outcomes = run(minilm, bodies)

    assert [outcome.index for outcome in outcomes] == list(range(len(bodies)))


def test_two_threads_may_prepare_at_once(minilm: SentenceTransformersEngine) -> None:
    items = items_of([{"input": text} for text in TEXTS])
    expected = minilm.prepare(items, on_oversize="truncate").token_ids
    found: list[Any] = []

    def prepare() -> None:
        found.extend(minilm.prepare(items, on_oversize="truncate").token_ids == expected for _ in range(20))

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


def test_a_failed_item_has_no_part_in_any_batch(minilm: SentenceTransformersEngine) -> None:
    window = minilm.prepare(items_of([{"input": "good"}, {"input": ""}, {"input": LONG_TEXT}]))

    assert set(window.refused) == {1, 2}
    assert all(isinstance(refusal, ItemFailed) for refusal in window.refused.values())
    assert {position for batch in window.batches for position in batch.positions} == {0}
