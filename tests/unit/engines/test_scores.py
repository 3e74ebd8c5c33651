"""Rankings and classes are those of the models' own libraries, in the shapes of the established servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from running import answer, failure, run
from sentence_transformers import CrossEncoder
from tiny_chat_model import write_models_file
from tiny_score_models import (
    CLASSIFIER,
    LABELS,
    MAX_TOKENS,
    RERANKER,
    make_tiny_scorer,
    tiny_classifier_entry,
    tiny_reranker_entry,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from app.domain.items import ItemErrorCode
from config.models import load_models
from workers.engines.base import AnyEngine, ModelUnloadable
from workers.engines.registry import EngineRegistry

QUERY = "a river in Portugal"
DOCUMENTS = ["The Tagus flows west.", "Onion soup.", "A night train to Lisbon leaves at nine.", "Rivers carry water."]
LONG = "river " * 2 * MAX_TOKENS


def _registry(folder: Path, *entries: dict[str, Any]) -> EngineRegistry:
    return EngineRegistry(load_models(write_models_file(folder / "models.yaml", *entries)), pool="cpu", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scores")
    make_tiny_scorer(made / RERANKER, labels=("relevant",))
    make_tiny_scorer(made / CLASSIFIER, labels=LABELS)
    return made


@pytest.fixture(scope="module")
def registry(folder: Path) -> EngineRegistry:
    return _registry(folder, tiny_reranker_entry(folder / RERANKER), tiny_classifier_entry(folder / CLASSIFIER))


@pytest.fixture(scope="module")
def reranker(registry: EngineRegistry) -> AnyEngine:
    return registry.engine(model=RERANKER, version="v1", endpoint="/v1/rerank")


@pytest.fixture(scope="module")
def classifier(registry: EngineRegistry) -> AnyEngine:
    return registry.engine(model=CLASSIFIER, version="v1", endpoint="/v1/classify")


def ranking(engine: AnyEngine, **fields: Any) -> dict[str, Any]:
    (outcome,) = run(engine, [{"model": RERANKER, "query": QUERY, "documents": DOCUMENTS, **fields}])
    return answer(outcome)


def test_scores_are_those_of_the_library_the_best_first(reranker: AnyEngine, folder: Path) -> None:
    model = CrossEncoder(str(folder / RERANKER), device="cpu", local_files_only=True)
    wanted = model.predict([(QUERY, document) for document in DOCUMENTS])
    body = ranking(reranker)
    assert [each["index"] for each in body["results"]] == sorted(range(4), key=lambda place: -wanted[place])
    for each in body["results"]:
        assert each["relevance_score"] == pytest.approx(float(wanted[each["index"]]), abs=1e-5)
        assert each["document"] == {"text": DOCUMENTS[each["index"]]}
    assert (body["object"], body["model"]) == ("rerank", RERANKER)
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] > 0


def test_many_queries_in_one_window_are_ranked_as_each_alone(reranker: AnyEngine) -> None:
    queries = [f"query number {number}" for number in range(9)]
    bodies = [{"query": query, "documents": DOCUMENTS[: 1 + number % 4]} for number, query in enumerate(queries)]
    together = run(reranker, bodies)
    for body, outcome in zip(bodies, together, strict=True):
        shown = answer(outcome)["results"]
        alone = answer(run(reranker, [body])[0])["results"]
        assert [each["index"] for each in shown] == [each["index"] for each in alone]
        scores = [each["relevance_score"] for each in alone]
        assert [each["relevance_score"] for each in shown] == pytest.approx(scores, abs=1e-5)


def test_raw_scores_are_those_before_the_activation(reranker: AnyEngine) -> None:
    raw, shown = (ranking(reranker, raw_scores=flag)["results"] for flag in (True, False))
    for before, after in zip(raw, shown, strict=True):
        sigmoid = torch.tensor(before["relevance_score"]).sigmoid()
        assert after["relevance_score"] == pytest.approx(float(sigmoid), abs=1e-5)


def test_the_best_few_without_their_texts(reranker: AnyEngine) -> None:
    whole = ranking(reranker)["results"]
    few = ranking(reranker, top_n=2, return_documents=False)["results"]
    assert [each["index"] for each in few] == [each["index"] for each in whole[:2]]
    assert all("document" not in each for each in few)


def test_documents_may_be_objects_with_a_text(reranker: AnyEngine) -> None:
    objects = [{"text": text} for text in DOCUMENTS]
    assert ranking(reranker, documents=objects)["results"] == ranking(reranker)["results"]


def test_a_document_that_is_too_long_is_refused_or_cut_as_told(reranker: AnyEngine) -> None:
    long = {"query": QUERY, "documents": [LONG, "short"]}
    assert failure(run(reranker, [long])[0]).code == ItemErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert "'documents'" in failure(run(reranker, [long])[0]).message
    by_field, by_job = run(reranker, [{**long, "truncate": True}])[0], run(reranker, [long], on_oversize="truncate")[0]
    assert answer(by_field)["results"] == answer(by_job)["results"]


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"query": None}, ItemErrorCode.MISSING_REQUIRED_PARAMETER, "'query'"),
        ({"documents": None}, ItemErrorCode.MISSING_REQUIRED_PARAMETER, "'documents'"),
        ({"query": ""}, ItemErrorCode.INVALID_REQUEST, "'query'"),
        ({"documents": []}, ItemErrorCode.INVALID_REQUEST, "'documents'"),
        ({"documents": "one"}, ItemErrorCode.INVALID_REQUEST, "'documents'"),
        ({"documents": [{"title": "x"}]}, ItemErrorCode.INVALID_REQUEST, "'documents'"),
        ({"documents": ["x"] * 3000}, ItemErrorCode.INVALID_REQUEST, "'documents'"),
        ({"top_n": -1}, ItemErrorCode.INVALID_REQUEST, "'top_n'"),
        ({"raw_scores": "yes"}, ItemErrorCode.INVALID_REQUEST, "'raw_scores'"),
        ({"topn": 1}, ItemErrorCode.INVALID_REQUEST, "'topn'"),
    ],
)
def test_a_wrong_rerank_request_is_refused_by_name(
    reranker: AnyEngine, fields: dict[str, Any], code: ItemErrorCode, named: str
) -> None:
    problem = failure(run(reranker, [{"query": QUERY, "documents": DOCUMENTS, **fields}])[0])
    assert (problem.code, problem.message.startswith(named)) == (code, True)


def test_a_model_with_several_classes_ranks_nothing(folder: Path) -> None:
    engines = _registry(folder, tiny_reranker_entry(folder / CLASSIFIER))
    with pytest.raises(ModelUnloadable, match="3 numbers"):
        engines.engine(model=RERANKER, version="v1", endpoint="/v1/rerank")


def _logits(folder: Path, texts: list[str]) -> torch.Tensor:
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with torch.inference_mode():
        logits: torch.Tensor = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    return logits


def test_classes_are_those_of_the_library(classifier: AnyEngine, folder: Path) -> None:
    wanted = _logits(folder / CLASSIFIER, DOCUMENTS).softmax(dim=-1)
    (outcome,) = run(classifier, [{"model": CLASSIFIER, "input": DOCUMENTS}])
    body = answer(outcome)
    assert (body["object"], [each["index"] for each in body["data"]]) == ("list", [0, 1, 2, 3])
    for each, probabilities in zip(body["data"], wanted.tolist(), strict=True):
        assert each["probs"] == pytest.approx(probabilities, abs=1e-5)
        assert each["label"] == LABELS[probabilities.index(max(probabilities))] == each["scores"][0]["label"]
        assert each["num_classes"] == len(each["scores"]) == len(LABELS)


def test_a_model_whose_classes_may_be_true_together_gives_each_its_own_probability(tmp_path: Path) -> None:
    make_tiny_scorer(tmp_path / CLASSIFIER, labels=LABELS, problem_type="multi_label_classification")
    engines = _registry(tmp_path, tiny_classifier_entry(tmp_path / CLASSIFIER))
    engine = engines.engine(model=CLASSIFIER, version="v1", endpoint="/v1/classify")
    shown, raw = run(engine, [{"input": "one text", "raw_scores": raw} for raw in (False, True)])
    wanted = _logits(tmp_path / CLASSIFIER, ["one text"])
    assert answer(shown)["data"][0]["probs"] == pytest.approx(wanted.sigmoid()[0].tolist(), abs=1e-5)
    assert answer(raw)["data"][0]["probs"] == pytest.approx(wanted[0].tolist(), abs=1e-4)


@pytest.mark.parametrize("value", ["", [], [5], [""], {"text": "x"}])
def test_a_wrong_classify_request_is_refused_by_name(classifier: AnyEngine, value: Any) -> None:
    problem = failure(run(classifier, [{"input": value}])[0])
    assert (problem.code, problem.message.startswith("'input'")) == (ItemErrorCode.INVALID_REQUEST, True)


def test_a_text_that_is_too_long_is_refused_or_cut_as_told(classifier: AnyEngine) -> None:
    refused, cut = run(classifier, [{"input": LONG}, {"input": LONG, "truncate": True}])
    assert failure(refused).code == ItemErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert answer(cut)["usage"]["prompt_tokens"] == MAX_TOKENS
