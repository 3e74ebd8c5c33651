"""The core with a chat model, which a scripted server has; and the API over it, at an address that SDKs can reach."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from core_machine import CoreMachine
from scripted_upstream import ScriptedUpstream
from werkzeug.serving import make_server

from app.db.repositories.tenants import Tenants
from app.factory import create_app
from app.services.create_api_key import create_api_key
from app.services.dispatch import Dispatcher
from config.models import ModelVersion
from workers.device_lock import DeviceLock
from workers.engines.registry import EngineRegistry
from workers.engines.upstream import UpstreamEngine
from workers.pipeline import PipelineRunner

CHAT = "/v1/chat/completions"


@contextmanager
def chatting(core: CoreMachine, upstream: ScriptedUpstream) -> Iterator[CoreMachine]:
    """The core with one more model, which the scripted server has."""
    version = ModelVersion(name="v1", package=None, path=None, precision="fp32", upstream=upstream.server())
    spec = replace(
        core.wiring.models["echo"],
        alias="chat",
        engine="upstream",
        endpoints=(CHAT,),
        versions={"v1": version},
        stable_version="v1",
    )
    models = {**core.wiring.models, "chat": spec}
    wiring = replace(core.wiring, models=models)
    engines = EngineRegistry(models, pool="cpu", device="cpu")
    dispatcher = Dispatcher(settings=wiring.settings, models=models, database=wiring.database, publisher=core.publisher)
    runner = PipelineRunner(engines, DeviceLock())
    yield replace(core, wiring=wiring, runner=runner, dispatcher=dispatcher)
    engine = engines.engine(model="chat", version="v1", endpoint=CHAT)
    assert isinstance(engine, UpstreamEngine)
    engine.close()


@dataclass(frozen=True, slots=True)
class ServedCore:
    """A core whose API is served."""

    core: CoreMachine
    url: str
    key: str

    def new_key(self, tenant: str) -> str:
        """A key of another tenant."""
        return create_api_key(wiring=self.core.wiring, tenant=tenant).key


@contextmanager
def served(core: CoreMachine, port: int) -> Iterator[ServedCore]:
    """Serve the API of a core until the block ends, to a tenant that nobody else uses."""
    url = f"http://127.0.0.1:{port}"
    wiring = replace(core.wiring, settings=replace(core.wiring.settings, public_url=url))
    httpd = make_server("127.0.0.1", port, create_app(wiring), threaded=True)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    tenant = f"test-{uuid4().hex}"
    key = create_api_key(wiring=wiring, tenant=tenant).key
    with wiring.database.begin() as connection:
        tenant_id = Tenants(connection).id_of(tenant)
    try:
        yield ServedCore(replace(core, wiring=wiring, tenant_id=tenant_id), url, key)
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
