"""The application of Ray Serve: servers that answer HTTP, and for each model a deployment of replicas."""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloisonne.studio.app import create_app
from cloisonne.studio.cluster.replica import ModelReplica
from cloisonne.studio.cluster.slot import ModelSlot
from cloisonne.studio.security import Gate
from cloisonne.studio.settings import Settings
from cloisonne.studio.shared_ledger import SharedLedger
from cloisonne.studio.studio import Studio

NAME = "cloisonne"
"""Of the application in its cluster."""
ONGOING = 2
"""Calls that a replica takes at once: a group of jobs, and a dry run."""
DRAIN_SECONDS = 600.0
"""Time that a replica gets to finish its job when it is replaced."""
CLOSE_SECONDS = 10.0
"""Time that open connections of a server get when it is replaced."""
RELEASE = "CLOISONNE_RELEASE"
"""Environment variable whose change restarts all replicas, a few at a time."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many processes there are.

    Attributes:
        servers: that answer, on the machine with the data folder.
        least, most: replicas of each model.
        threads: processor threads of each replica.
        node: address of the machine with the data folder, as Ray names it.
        release: counts the restarts.
    """

    servers: int = 2
    least: int = 1
    most: int = 1
    threads: int = 1
    node: str
    release: int = 0

    @property
    def slots(self) -> int:
        """Groups of jobs of a model that each server sends at once, so that all together have a replica for each."""
        return math.ceil(self.most / self.servers)


def application(settings: Settings, scale: Scale) -> Any:
    """What ``ray.serve.run`` takes. settings: with the port that the proxy listens on."""
    serve = importlib.import_module("ray.serve")
    models = [_model(serve, name, settings, scale) for name in settings.models]

    def answering() -> Gate:
        return create_app(settings, partial(studio, most=scale.slots))

    servers = serve.deployment(
        serve.ingress(answering)(),
        name="server",
        num_replicas=scale.servers,
        max_ongoing_requests=1000,
        graceful_shutdown_timeout_s=CLOSE_SECONDS,
        ray_actor_options={
            "num_cpus": 0,
            "resources": {f"node:{scale.node}": 0.001},
            "runtime_env": {"env_vars": {RELEASE: str(scale.release)}},
        },
        logging_config=QUIET,
    )
    return servers.bind(*models)


QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Addresses of requests have ids, which are nobody's business."""


def _model(serve: Any, name: str, settings: Settings, scale: Scale) -> Any:
    """The deployment of a model: it grows while groups of jobs wait for a replica."""
    spec = settings.models[name]
    on_gpu = spec.device.startswith("cuda")
    environment = {"OMP_NUM_THREADS": str(scale.threads), "OMP_WAIT_POLICY": "PASSIVE", RELEASE: str(scale.release)}
    replicas = serve.deployment(
        ModelReplica,
        name=deployment_name(name, settings.models),
        autoscaling_config={"min_replicas": scale.least, "max_replicas": scale.most, "target_ongoing_requests": 1},
        max_ongoing_requests=ONGOING,
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        ray_actor_options={
            "num_cpus": scale.threads,
            "num_gpus": int(on_gpu),
            "runtime_env": {"env_vars": environment},
        },
        logging_config=QUIET,
    )
    return replicas.bind(name, {"source": spec.source, **spec.to_dict()}, "cuda" if on_gpu else spec.device)


def deployment_name(model: str, models: Mapping[str, Any]) -> str:
    """The name of a model's deployment: names of models have characters that those of deployments have not."""
    return f"model-{list(models).index(model)}"


def studio(settings: Settings, most: int) -> Studio:
    """The studio of one server of the application. most: groups of jobs of a model that it sends at once."""
    serve = importlib.import_module("ray.serve")
    slots = []
    for name, spec in settings.models.items():
        handle = serve.get_deployment_handle(deployment_name(name, settings.models), app_name=NAME)
        slots += [ModelSlot(name, spec.device, handle) for _ in range(most)]
    return Studio(settings, SharedLedger(settings), slots)
