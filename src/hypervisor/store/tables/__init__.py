"""All tables, one file per aggregate. Import tables from here."""

from hypervisor.store.tables.attempts import Allocation, Attempt, GpuClaim, InstanceGc, NominationRow
from hypervisor.store.tables.clusters import Cluster, Node, NodeGpu
from hypervisor.store.tables.decisions import Decision
from hypervisor.store.tables.deployments import (
    IS_QUEUED,
    STATES,
    Dependency,
    Deployment,
    DeploymentLabel,
    IdempotencyKey,
)
from hypervisor.store.tables.events import Event
from hypervisor.store.tables.identity import LoginSession, LoginThrottle, RefreshToken, User
from hypervisor.store.tables.organizations import Invite, Membership, Organization
from hypervisor.store.tables.shares import SHARE_STATES, ClusterShare
from hypervisor.store.tables.system import EngineState, Installation, Lease, LeaseEpoch, Server

__all__ = [
    "IS_QUEUED",
    "SHARE_STATES",
    "STATES",
    "Allocation",
    "Attempt",
    "Cluster",
    "ClusterShare",
    "Decision",
    "Dependency",
    "Deployment",
    "DeploymentLabel",
    "EngineState",
    "Event",
    "GpuClaim",
    "IdempotencyKey",
    "Installation",
    "InstanceGc",
    "Invite",
    "Lease",
    "LeaseEpoch",
    "LoginSession",
    "LoginThrottle",
    "Membership",
    "Node",
    "NodeGpu",
    "NominationRow",
    "Organization",
    "RefreshToken",
    "Server",
    "User",
]
