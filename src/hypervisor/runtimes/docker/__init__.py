"""The Docker runtime: instances are containers on a Docker-compatible engine, driven through its API.

`runtime` implements the protocol by putting the parts together: `config` (pure: a launch spec as a container
configuration), `engine` (the connection and what its errors mean), `launch`, `images`, `network`, `observe`,
`stop`, `logs` and `events`. No command line is ever built here, and nothing knows of deployments or the
database.
"""

from hypervisor.runtimes.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]
