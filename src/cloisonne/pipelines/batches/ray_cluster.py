"""A connection to a Ray cluster, whose doors are closed: nothing listens without its token.

Of a cluster that is started here, everything listens on the loopback interface, and there is no dashboard.
"""

import importlib
import os
import secrets
import sys
from typing import Any

from packaging.version import Version

from cloisonne.errors import CapabilityError
from cloisonne.extras import check_extra
from cloisonne.scene.values import brief

LOCAL = "local"
"""The address of a cluster of this machine alone, which ends with this process."""
FLOOR = Version("2.54")
"""Older versions have open doors: CVE-2025-62593, CVE-2026-27482."""


def connect(address: str, *, cpus: int, label: str, floor: Version = FLOOR) -> None:
    """Connect to a cluster, or start one on this machine; one that is connected is used.

    A cluster's token is read as Ray does: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token. That of a local one
    is random.

    Args:
        address: of a cluster, or "local".
        cpus: processors of a local one.
        label: how the caller spells the address in messages.
        floor: oldest version of Ray.

    Raises:
        CapabilityError: Ray is missing, too old, or imported already; or the cluster cannot be reached.
    """
    check_extra("ray", label)
    imported = "ray" in sys.modules
    if not imported:
        # Ray reads these when it is imported.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to Ray's makers
        if address == LOCAL:
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            # Without it, Ray takes the address that other machines reach, on Linux alone, and listens on all of them.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray = library()
    check_version(ray.__version__, floor)
    if ray.is_initialized():
        return
    if imported:
        raise CapabilityError(
            f"{label} is {brief(address)}, but Ray was imported before its token was set; call ray.init first."
        )
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        given |= {"include_dashboard": False, "num_cpus": cpus, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address=address, **given)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CapabilityError(
            f"The Ray cluster {brief(address)} cannot be used ({reason}); check its address."
        ) from None


def check_version(version: str, floor: Version = FLOOR) -> None:
    """Refuse versions of Ray with ports that anyone may use. Raises CapabilityError."""
    if Version(version) < floor:
        raise CapabilityError(
            f"Ray is version {version}, of which other machines may run programs on this one; install {floor} or newer."
        )


def library() -> Any:
    """Ray, which is optional."""
    return importlib.import_module("ray")
