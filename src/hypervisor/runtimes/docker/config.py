"""Translates a launch spec into a container configuration, hardening included; no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hypervisor.kernel.exec_limits import USUAL_TOTAL_BYTES, TooLargeForExec, check_start
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec

INSTALL_LABEL: Final = "hypervisor.install"
INSTANCE_LABEL: Final = "hypervisor.instance"
EXACT_LOG_DRIVER: Final = "local"
LOG_FILE_SIZE: Final = "10m"
"""The log driver of Docker that keeps bytes. Podman has none."""

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,511}")
_CONTAINER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,200}")
_LOOPBACK: Final = "127.0.0.1"
_MIB: Final = 1024 * 1024
_NANO_PER_MILLI: Final = 1_000_000
_PIDS_LIMIT: Final = 256
# The engine refuses smaller limits. A smaller request gets these limits instead of none.
_MIN_MEMORY_MIB: Final = 6
_MIN_CPU_MILLI: Final = 10
_DEFAULT_SHM_MIB: Final = 64


def network_name(install: str) -> str:
    """The name of the bridge network that only the instances of one installation use."""
    return f"hv-{install}"


def is_container_name(text: str) -> bool:
    """Whether this is a valid container name, and so safe in a URL path."""
    return _CONTAINER_NAME.fullmatch(text) is not None


def check_image(image: str | None) -> str:
    """Return the image reference if it has no leading "-", no blanks and no control characters.

    The engine checks the rest of the grammar. Raises LaunchFailed.
    """
    if not image:
        raise LaunchFailed("the docker runtime needs an image, and this deployment has none")
    if _IMAGE.fullmatch(image) is None:
        raise LaunchFailed(f"invalid image name: {image!r}")
    return image


def network_config(install: str, *, isolated: bool = True) -> dict[str, Any]:
    """The network of an installation. With `isolated` its containers cannot reach each other."""
    options = {"com.docker.network.bridge.enable_icc": "false"} if isolated else {}
    return {
        "Name": network_name(install),
        "CheckDuplicate": True,
        "Driver": "bridge",
        "Options": options,
        "Labels": {INSTALL_LABEL: install},
    }


def container_config(
    spec: LaunchSpec, install: str, *, init: bool = True, exact_log: bool = True
) -> dict[str, Any]:
    """The body of the "create container" call.

    A command replaces the image's entry point, so the container runs exactly that argv. With `init` the
    engine's init is PID 1 and forwards the stop signal. Without it a workload that installs no handler
    ignores that signal and ends by SIGKILL. With `exact_log` the engine keeps the output byte for byte.
    Without it the engine replaces bytes that are not UTF-8, and cuts a line within characters. Raises
    LaunchFailed for an invalid image name, and for strings with which no program can be started.
    """
    environment = _environment(spec, init=init)
    _check_size(spec, environment)
    config: dict[str, Any] = {
        "Image": check_image(spec.image),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {INSTALL_LABEL: install, INSTANCE_LABEL: spec.instance},
        "ExposedPorts": {f"{port}/tcp": {} for port in spec.ports},
        "HostConfig": _host_config(spec, install, init=init) | _log_config(exact=exact_log),
    }
    if spec.working_dir is not None:
        config["WorkingDir"] = spec.working_dir
    if spec.command:
        config["Entrypoint"] = list(spec.command)
        config["Cmd"] = []
    return config


def _check_size(spec: LaunchSpec, environment: Mapping[str, str]) -> None:
    # The engine accepts them, and its container ends with code 1 and a line in the log.
    try:
        check_start(spec.command, environment, USUAL_TOTAL_BYTES)
    except TooLargeForExec as error:
        raise LaunchFailed(str(error)) from error


def _host_config(spec: LaunchSpec, install: str, *, init: bool) -> dict[str, Any]:
    return {
        **_limits(spec),
        **_hardening(spec),
        "Init": init,
        "NetworkMode": network_name(install),
        "PortBindings": {f"{port}/tcp": [{"HostIp": _LOOPBACK, "HostPort": ""}] for port in spec.ports},
        "RestartPolicy": {"Name": "no"},
    }


def _log_config(*, exact: bool) -> dict[str, Any]:
    driver = EXACT_LOG_DRIVER if exact else "json-file"
    return {"LogConfig": {"Type": driver, "Config": {"max-size": LOG_FILE_SIZE, "max-file": "3"}}}


def _limits(spec: LaunchSpec) -> dict[str, Any]:
    """CPU, memory without swap, and GPUs. An amount of 0 sets no limit."""
    limits: dict[str, Any] = {"PidsLimit": _PIDS_LIMIT}
    if spec.resources.cpu_milli:
        limits["NanoCPUs"] = max(spec.resources.cpu_milli, _MIN_CPU_MILLI) * _NANO_PER_MILLI
    if spec.resources.ram_mib:
        memory = max(spec.resources.ram_mib, _MIN_MEMORY_MIB) * _MIB
        # Shared memory counts against the limit; the engine's 64 MiB is too little for data loaders.
        shared = max(_DEFAULT_SHM_MIB * _MIB, memory // 2)
        limits |= {"Memory": memory, "MemorySwap": memory, "ShmSize": shared}
    if spec.gpu_indices:
        devices = [str(index) for index in spec.gpu_indices]
        limits["DeviceRequests"] = [{"DeviceIDs": devices, "Capabilities": [["gpu"]]}]
    return limits


def _hardening(spec: LaunchSpec) -> dict[str, Any]:
    hardening: dict[str, Any] = {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "ReadonlyRootfs": spec.read_only_root,
    }
    if spec.read_only_root:
        hardening["Tmpfs"] = {"/tmp": "rw,nosuid,nodev,mode=1777"}  # noqa: S108 - inside the container
    return hardening


def _environment(spec: LaunchSpec, *, init: bool) -> dict[str, str]:
    """The deployment's variables, overridden by those of the runtime: ports and devices."""
    environment = {**spec.env}
    if spec.ports:
        environment["PORT"] = str(spec.ports[0])
        environment |= {f"PORT_{port}": str(port) for port in spec.ports}
    # If nvidia is the engine's default runtime, an image that sets "all" would get every device.
    environment["NVIDIA_VISIBLE_DEVICES"] = ",".join(map(str, spec.gpu_indices)) or "void"
    if init:
        # tini then signals the whole process group of the workload and not only its first process.
        environment["TINI_KILL_PROCESS_GROUP"] = "1"
    return environment
