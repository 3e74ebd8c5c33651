"""``/v1/models``: what can be asked for."""

from __future__ import annotations

from collections.abc import Collection

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.errors import ModelNotFound
from app.schemas.models import ModelListSchema, ModelSchema
from config.models import ModelSpec

blueprint = ApiBlueprint("models", url_prefix="/v1/models", description="What can be asked for")


@blueprint.route("", methods=["GET"])
@blueprint.response(200, ModelListSchema)
def get_models() -> dict[str, Collection[ModelSpec]]:
    """List models."""
    return {"data": list(context.wiring().models.values())}


@blueprint.route("/<path:model>", methods=["GET"])
@blueprint.refuses(ModelNotFound)
@blueprint.response(200, ModelSchema)
def get_model(model: str) -> ModelSpec:
    """Show a model."""
    found = context.wiring().models.get(model)
    if found is None:
        raise ModelNotFound(f"there is no model {model[:80]!r}; GET /v1/models lists them", param="model")
    return found
