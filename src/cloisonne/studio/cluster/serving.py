"""Runs the application on a Ray cluster until it is interrupted, and restarts it without a lost job."""

import importlib
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

from packaging.version import Version

from cloisonne.errors import CapabilityError, OutputError
from cloisonne.pipelines.batches.ray_cluster import LOCAL, connect, library
from cloisonne.studio.cluster.application import NAME, Scale, application
from cloisonne.studio.serve import KEEP_ALIVE, bound
from cloisonne.studio.settings import Settings
from cloisonne.studio.storage.shared import SharedStore

FLOOR = Version("2.60")
"""Oldest version of Ray whose replicas are known to ask for the token on their ports, which are open to the network."""

HEAD, CONTROLLER = "node:__internal_head__", "SERVE_CONTROLLER_ACTOR"
"""Ray's names of the resource that the head machine has, and of the actor that there is where Ray Serve runs."""


class Serving:
    """The application on a cluster.

    Attributes:
        settings: with the port that was chosen.
        scale: how many processes there are.
    """

    def __init__(self, settings: Settings, address: str, port: int | None, **scale: int) -> None:
        """Connect and deploy. scale: fields of :class:`Scale`. Raises CapabilityError or OutputError."""
        SharedStore(settings.data).close()  # refuses before anything is started
        listener = bound(settings.host, port)
        self.settings = replace(settings, port=listener.getsockname()[1])
        listener.close()
        cpus = len(settings.models) * scale.get("most", 1) * scale.get("threads", 1)
        connect(address, cpus=cpus, label="--ray", floor=FLOOR)
        self._serve = importlib.import_module("ray.serve")
        self._ray = library()
        _check_cluster(self._ray)
        self.scale = Scale(node=self._ray.util.get_node_ip_address(), **scale)
        self._local = address == LOCAL
        self._serve.start(
            proxy_location="HeadOnly",
            http_options={
                "host": self.settings.host,
                "port": self.settings.port,
                "keep_alive_timeout_s": KEEP_ALIVE,
            },
        )
        self._deploy()

    def _deploy(self) -> None:
        app = application(self.settings, self.scale)
        try:
            self._serve.run(app, name=NAME, route_prefix="/")
        except RuntimeError as error:
            raise OutputError(
                f"The application did not start on the cluster ({str(error).splitlines()[0]}); its logs say why."
            ) from None

    def restart(self) -> None:
        """Replace all processes, a few at a time. Jobs that are drawn are finished, or drawn again; none is lost."""
        self.scale = replace(self.scale, release=self.scale.release + 1)
        self._deploy()

    def close(self) -> None:
        """End the application, and Ray Serve with it. Jobs stay in the data folder, queued.

        A local cluster is ended as a whole: a signal to the group of this process has ended parts of it already, which
        do not answer any more.
        """
        if self._local:
            self._ray.shutdown()
        else:
            self._serve.shutdown()
        with closing(SharedStore(self.settings.data)) as store:
            store.release_ended()


def _check_cluster(ray: Any) -> None:
    """Refuse a cluster whose proxy would not listen here. Raises CapabilityError."""
    own = ray.get_runtime_context().get_node_id()
    resources = {node["NodeID"]: node["Resources"] for node in ray.nodes()}
    if HEAD not in resources[own]:
        raise CapabilityError("This machine is not the head of the Ray cluster; run the command there.")
    try:
        ray.get_actor(CONTROLLER, namespace="serve")
    except ValueError:
        return
    raise CapabilityError(
        "Ray Serve runs on this cluster already, at an address that cannot be changed; end it by `serve shutdown`, or "
        "use another cluster."
    )


def serve(settings: Settings, address: str, port: int | None, announce: Callable[[str], None], **scale: int) -> None:
    """Serve until interrupted; SIGHUP restarts all processes in turn. announce: receives the address."""
    serving = Serving(settings, address, port, **scale)
    wake, restarts = threading.Event(), [0]

    def hang_up(*_: Any) -> None:
        restarts[0] += 1
        wake.set()

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGHUP, hang_up)
    signal.signal(signal.SIGTERM, end)
    announce(serving.settings.address)
    try:
        while True:
            wake.wait()
            wake.clear()
            if restarts[0]:
                restarts[0] = 0
                serving.restart()
    except KeyboardInterrupt:
        pass
    finally:
        serving.close()
