"""The schema of version 0.1.0.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "engines",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("runtime", sa.String(length=16), nullable=False),
        sa.Column("endpoint", sa.String(length=255), nullable=True),
        sa.Column("engine_identity", sa.String(length=255), nullable=True),
        sa.Column("cordoned_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_engines")),
    )
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("install_id", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_installation_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "instance_gc",
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("runtime", sa.String(length=16), nullable=False),
        sa.Column("engine_endpoint", sa.String(length=255), nullable=True),
        sa.Column("purge_logs", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_instance_gc")),
    )
    op.create_table(
        "lease_epochs",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease_epochs")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "login_throttles",
        sa.Column("account", sa.String(length=254), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_login_throttles")),
    )
    op.create_index(op.f("ix_login_throttles_updated_at"), "login_throttles", ["updated_at"], unique=False)
    op.create_table(
        "servers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("excluded_leases", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_servers")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=64), nullable=False),
        sa.Column("username_normalized", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("email_normalized", sa.String(length=254), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("requested_role", sa.String(length=16), nullable=True),
        sa.Column("is_superuser", sa.Boolean(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email_normalized", name=op.f("uq_users_email_normalized")),
        sa.UniqueConstraint("username_normalized", name=op.f("uq_users_username_normalized")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("deployment_ids", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotency_keys_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "login_sessions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_reason", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_login_sessions_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_sessions")),
    )
    op.create_index(op.f("ix_login_sessions_expires_at"), "login_sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_login_sessions_user_id"), "login_sessions", ["user_id"], unique=False)
    op.create_table(
        "organizations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("name_normalized", sa.String(length=100), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleting_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_organizations_created_by_users"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
        sa.UniqueConstraint("name_normalized", name=op.f("uq_organizations_name_normalized")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "clusters",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("runtime", sa.String(length=16), nullable=False),
        sa.Column("resolved_runtime", sa.String(length=16), nullable=False),
        sa.Column("placement_policy", sa.String(length=32), nullable=False),
        sa.Column("optimizer_steps", sa.Integer(), server_default="0", nullable=False),
        sa.Column("solver", sa.String(length=32), server_default="search", nullable=False),
        sa.Column("preemption", sa.Boolean(), nullable=False),
        sa.Column("min_runtime_seconds", sa.Integer(), nullable=False),
        sa.Column("preemption_budget", sa.Integer(), server_default="5", nullable=False),
        sa.Column("preemption_window_seconds", sa.Integer(), server_default="3600", nullable=False),
        sa.Column("preemption_cooldown_seconds", sa.Integer(), server_default="1800", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleting_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("min_runtime_seconds >= 0", name=op.f("ck_clusters_min_runtime")),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_clusters_organization_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clusters")),
        sa.UniqueConstraint("organization_id", "name", name=op.f("uq_clusters_organization_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_clusters_organization_id"), "clusters", ["organization_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.Integer(), nullable=True),
        sa.Column("deployment_id", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=True),
        sa.Column("to_state", sa.String(length=16), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_events_organization_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"], unique=False)
    op.create_index("ix_events_deployment_id_id", "events", ["deployment_id", "id"], unique=False)
    op.create_index("ix_events_organization_id_id", "events", ["organization_id", "id"], unique=False)
    op.create_table(
        "invites",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("code_encrypted", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'developer', 'viewer')", name=op.f("ck_invites_role")),
        sa.CheckConstraint(
            "uses >= 0 AND (max_uses IS NULL OR uses <= max_uses)", name=op.f("ck_invites_uses_within_limit")
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_invites_created_by_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_invites_organization_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invites")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_invites_code_hash")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_invites_organization_id"), "invites", ["organization_id"], unique=False)
    op.create_table(
        "memberships",
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('admin', 'developer', 'viewer')", name=op.f("ck_memberships_role")),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_memberships_organization_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_memberships_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("organization_id", "user_id", name=op.f("pk_memberships")),
    )
    op.create_index(op.f("ix_memberships_user_id"), "memberships", ["user_id"], unique=False)
    op.create_table(
        "refresh_tokens",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("session_id", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["login_sessions.id"],
            name=op.f("fk_refresh_tokens_session_id_login_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refresh_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_refresh_tokens_token_hash")),
    )
    op.create_index(op.f("ix_refresh_tokens_expires_at"), "refresh_tokens", ["expires_at"], unique=False)
    op.create_index(op.f("ix_refresh_tokens_session_id"), "refresh_tokens", ["session_id"], unique=False)
    op.create_index(
        "uq_refresh_tokens_live",
        "refresh_tokens",
        ["session_id"],
        unique=True,
        sqlite_where=sa.text("used_at IS NULL"),
        postgresql_where=sa.text("used_at IS NULL"),
    )
    op.create_table(
        "cluster_shares",
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("guaranteed_cpu_milli", sa.BigInteger(), nullable=False),
        sa.Column("guaranteed_ram_mib", sa.BigInteger(), nullable=False),
        sa.Column("guaranteed_gpu_milli", sa.BigInteger(), nullable=False),
        sa.Column("limit_cpu_milli", sa.BigInteger(), nullable=True),
        sa.Column("limit_ram_mib", sa.BigInteger(), nullable=True),
        sa.Column("limit_gpu_milli", sa.BigInteger(), nullable=True),
        sa.Column("weight_milli", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("offered_by", sa.Integer(), nullable=True),
        sa.Column("offered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_by", sa.Integer(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('offered', 'accepted', 'declined', 'withdrawn')", name=op.f("ck_cluster_shares_state")
        ),
        sa.CheckConstraint(
            "guaranteed_cpu_milli >= 0 AND guaranteed_ram_mib >= 0 AND guaranteed_gpu_milli >= 0",
            name=op.f("ck_cluster_shares_guaranteed"),
        ),
        sa.CheckConstraint("weight_milli > 0", name=op.f("ck_cluster_shares_weight")),
        sa.ForeignKeyConstraint(
            ["answered_by"],
            ["users.id"],
            name=op.f("fk_cluster_shares_answered_by_users"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["cluster_id"],
            ["clusters.id"],
            name=op.f("fk_cluster_shares_cluster_id_clusters"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["offered_by"], ["users.id"], name=op.f("fk_cluster_shares_offered_by_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_cluster_shares_organization_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("cluster_id", "organization_id", name=op.f("pk_cluster_shares")),
    )
    op.create_index(
        op.f("ix_cluster_shares_organization_id"), "cluster_shares", ["organization_id"], unique=False
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("snapshot_hash", sa.String(length=64), nullable=False),
        sa.Column("plan_hash", sa.String(length=64), nullable=False),
        sa.Column("placements", sa.Integer(), nullable=False),
        sa.Column("evictions", sa.Integer(), nullable=False),
        sa.Column("nominations", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("snapshot", sa.LargeBinary(), nullable=False),
        sa.Column("snapshot_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_id"], ["clusters.id"], name=op.f("fk_decisions_cluster_id_clusters"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_decisions_at"), "decisions", ["at"], unique=False)
    op.create_index("ix_decisions_cluster_id_id", "decisions", ["cluster_id", "id"], unique=False)
    op.create_table(
        "deployments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("docker_image", sa.String(length=512), nullable=True),
        sa.Column("command", sa.JSON(), nullable=True),
        sa.Column("env", sa.JSON(), nullable=True),
        sa.Column("ports", sa.JSON(), nullable=True),
        sa.Column("working_dir", sa.String(length=1024), nullable=True),
        sa.Column("read_only_root", sa.Boolean(), nullable=False),
        sa.Column("cpu_milli", sa.BigInteger(), nullable=False),
        sa.Column("ram_mib", sa.BigInteger(), nullable=False),
        sa.Column("gpu_milli", sa.BigInteger(), nullable=False),
        sa.Column("placement_limits", sa.JSON(), nullable=True),
        sa.Column("replicas", sa.Integer(), nullable=False),
        sa.Column("replica_placement", sa.String(length=16), server_default="pack", nullable=False),
        sa.Column("gang_timeout_seconds", sa.Integer(), server_default="300", nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("preemptible", sa.Boolean(), nullable=False),
        sa.Column("min_runtime_seconds", sa.Integer(), nullable=False),
        sa.Column("max_runtime_seconds", sa.Integer(), nullable=True),
        sa.Column("grace_period_seconds", sa.Integer(), nullable=False),
        sa.Column("restart_policy", sa.String(length=16), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("retry_exit_codes", sa.JSON(), nullable=True),
        sa.Column("on_failure", sa.String(length=16), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_after_stop", sa.String(length=16), nullable=True),
        sa.Column("reason_code", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reason_data", sa.JSON(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempts_made", sa.Integer(), nullable=False),
        sa.Column("retries_used", sa.Integer(), nullable=False),
        sa.Column("preemptions", sa.Integer(), nullable=False),
        sa.Column("traceparent", sa.String(length=55), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delete_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "(state = 'STOPPING') = (state_after_stop IS NOT NULL)",
            name=op.f("ck_deployments_state_after_stop"),
        ),
        sa.CheckConstraint("kind IN ('job', 'service')", name=op.f("ck_deployments_kind")),
        sa.CheckConstraint("on_failure IN ('cancel', 'hold')", name=op.f("ck_deployments_on_failure")),
        sa.CheckConstraint(
            "replica_placement IN ('pack', 'spread')", name=op.f("ck_deployments_replica_placement")
        ),
        sa.CheckConstraint(
            "restart_policy IN ('never', 'on-failure', 'always')", name=op.f("ck_deployments_restart_policy")
        ),
        sa.CheckConstraint(
            "state IN ('BLOCKED', 'QUEUED', 'STARTING', 'RUNNING', 'STOPPING', "
            "'SUCCEEDED', 'FAILED', 'STOPPED', 'CANCELLED')",
            name=op.f("ck_deployments_state"),
        ),
        sa.CheckConstraint(
            "cpu_milli >= 0 AND ram_mib >= 0 AND gpu_milli >= 0", name=op.f("ck_deployments_resources")
        ),
        sa.CheckConstraint("gpu_milli < 1000 OR gpu_milli % 1000 = 0", name=op.f("ck_deployments_gpu_shape")),
        sa.CheckConstraint("priority BETWEEN 0 AND 1000", name=op.f("ck_deployments_priority")),
        sa.CheckConstraint("replicas >= 1", name=op.f("ck_deployments_replicas")),
        sa.ForeignKeyConstraint(
            ["cluster_id"],
            ["clusters.id"],
            name=op.f("fk_deployments_cluster_id_clusters"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_deployments_created_by_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_deployments_organization_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_deployments_cluster_id_state_id", "deployments", ["cluster_id", "state", "id"], unique=False
    )
    op.create_index(
        "ix_deployments_organization_id_id", "deployments", ["organization_id", "id"], unique=False
    )
    op.create_index(
        "ix_deployments_organization_id_name", "deployments", ["organization_id", "name", "id"], unique=False
    )
    op.create_index(
        "ix_deployments_organization_id_state",
        "deployments",
        ["organization_id", "state", "id"],
        unique=False,
    )
    op.create_index(
        "ix_deployments_organization_id_state_priority",
        "deployments",
        ["organization_id", "state", "priority", "id"],
        unique=False,
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("cpu_milli", sa.BigInteger(), nullable=False),
        sa.Column("ram_mib", sa.BigInteger(), nullable=False),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("gpu_model", sa.String(length=100), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("engine_endpoint", sa.String(length=255), nullable=True),
        sa.Column("cordoned", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("target_cpu_milli", sa.BigInteger(), nullable=True),
        sa.Column("target_ram_mib", sa.BigInteger(), nullable=True),
        sa.Column("target_gpu_count", sa.Integer(), nullable=True),
        sa.Column("used_cpu_milli", sa.BigInteger(), nullable=False),
        sa.Column("used_ram_mib", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("cpu_milli >= 0 AND ram_mib >= 0", name=op.f("ck_nodes_capacity")),
        sa.CheckConstraint("gpu_count BETWEEN 0 AND 64", name=op.f("ck_nodes_gpu_count")),
        sa.CheckConstraint("used_cpu_milli BETWEEN 0 AND cpu_milli", name=op.f("ck_nodes_cpu_fits")),
        sa.CheckConstraint("used_ram_mib BETWEEN 0 AND ram_mib", name=op.f("ck_nodes_ram_fits")),
        sa.ForeignKeyConstraint(
            ["cluster_id"], ["clusters.id"], name=op.f("fk_nodes_cluster_id_clusters"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
        sa.UniqueConstraint("cluster_id", "name", name=op.f("uq_nodes_cluster_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_nodes_cluster_id"), "nodes", ["cluster_id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=True),
        sa.Column("node_name", sa.String(length=100), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("replica", sa.Integer(), nullable=False),
        sa.Column("runtime", sa.String(length=16), nullable=False),
        sa.Column("engine_endpoint", sa.String(length=255), nullable=True),
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("gpu_indices", sa.JSON(), nullable=False),
        sa.Column("gpu_milli_per_device", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_grace_seconds", sa.Integer(), nullable=True),
        sa.Column("stop_reason", sa.String(length=32), nullable=True),
        sa.Column("preempted_by", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=32), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("ports", sa.JSON(), nullable=True),
        sa.Column("checkpoint_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checkpoint", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["cluster_id"], ["clusters.id"], name=op.f("fk_attempts_cluster_id_clusters"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_attempts_deployment_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_attempts_node_id_nodes"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_attempts_organization_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("instance", name=op.f("uq_attempts_instance")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_attempts_cluster_id_id", "attempts", ["cluster_id", "id"], unique=False)
    op.create_index("ix_attempts_deployment_id_number", "attempts", ["deployment_id", "number"], unique=False)
    op.create_index(op.f("ix_attempts_node_id"), "attempts", ["node_id"], unique=False)
    op.create_index(op.f("ix_attempts_organization_id"), "attempts", ["organization_id"], unique=False)
    op.create_index(
        "ix_attempts_preempted",
        "attempts",
        ["cluster_id", "stop_requested_at"],
        unique=False,
        sqlite_where=sa.text("preempted_by IS NOT NULL"),
        postgresql_where=sa.text("preempted_by IS NOT NULL"),
    )
    op.create_index(
        "uq_attempts_live",
        "attempts",
        ["deployment_id", "replica"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "dependencies",
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("depends_on_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("condition", sa.String(length=16), nullable=False),
        sa.CheckConstraint("condition IN ('succeeded', 'running')", name=op.f("ck_dependencies_condition")),
        sa.CheckConstraint("deployment_id <> depends_on_id", name=op.f("ck_dependencies_not_itself")),
        sa.ForeignKeyConstraint(
            ["depends_on_id"],
            ["deployments.id"],
            name=op.f("fk_dependencies_depends_on_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_dependencies_deployment_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("deployment_id", "depends_on_id", name=op.f("pk_dependencies")),
    )
    op.create_index(op.f("ix_dependencies_depends_on_id"), "dependencies", ["depends_on_id"], unique=False)
    op.create_table(
        "deployment_labels",
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_deployment_labels_deployment_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("deployment_id", "key", name=op.f("pk_deployment_labels")),
    )
    op.create_index(
        "ix_deployment_labels_key_value", "deployment_labels", ["key", "value", "deployment_id"], unique=False
    )
    op.create_table(
        "node_gpus",
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("gpu_index", sa.Integer(), nullable=False),
        sa.Column("used_milli", sa.Integer(), nullable=False),
        sa.CheckConstraint("used_milli BETWEEN 0 AND 1000", name=op.f("ck_node_gpus_gpu_fits")),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_node_gpus_node_id_nodes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", "gpu_index", name=op.f("pk_node_gpus")),
    )
    op.create_table(
        "nominations",
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("replica", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("gpu_indices", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_id"],
            ["clusters.id"],
            name=op.f("fk_nominations_cluster_id_clusters"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_nominations_deployment_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_nominations_node_id_nodes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("deployment_id", "replica", name=op.f("pk_nominations")),
    )
    op.create_index(op.f("ix_nominations_cluster_id"), "nominations", ["cluster_id"], unique=False)
    op.create_index(op.f("ix_nominations_node_id"), "nominations", ["node_id"], unique=False)
    op.create_table(
        "allocations",
        sa.Column("attempt_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("cpu_milli", sa.BigInteger(), nullable=False),
        sa.Column("ram_mib", sa.BigInteger(), nullable=False),
        sa.Column("gpu_milli", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["attempts.id"],
            name=op.f("fk_allocations_attempt_id_attempts"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["cluster_id"],
            ["clusters.id"],
            name=op.f("fk_allocations_cluster_id_clusters"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_allocations_deployment_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_allocations_node_id_nodes"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_allocations")),
    )
    op.create_index(op.f("ix_allocations_cluster_id"), "allocations", ["cluster_id"], unique=False)
    op.create_index(op.f("ix_allocations_deployment_id"), "allocations", ["deployment_id"], unique=False)
    op.create_index(op.f("ix_allocations_node_id"), "allocations", ["node_id"], unique=False)
    op.create_table(
        "gpu_claims",
        sa.Column("attempt_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("gpu_index", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("milli", sa.Integer(), nullable=False),
        sa.CheckConstraint("milli BETWEEN 1 AND 1000", name=op.f("ck_gpu_claims_milli")),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["allocations.attempt_id"],
            name=op.f("fk_gpu_claims_attempt_id_allocations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["node_id", "gpu_index"],
            ["node_gpus.node_id", "node_gpus.gpu_index"],
            name=op.f("fk_gpu_claims_node_id_gpu_index_node_gpus"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("attempt_id", "gpu_index", name=op.f("pk_gpu_claims")),
    )
    op.create_index(
        "uq_gpu_claims_whole",
        "gpu_claims",
        ["node_id", "gpu_index"],
        unique=True,
        sqlite_where=sa.text("milli = 1000"),
        postgresql_where=sa.text("milli = 1000"),
    )
    op.create_index(
        "ix_deployments_queue",
        "deployments",
        ["cluster_id", sa.text("priority DESC"), "created_at", "id"],
        sqlite_where=sa.text("state = 'QUEUED'"),
        postgresql_where=sa.text("state = 'QUEUED'"),
    )


def downgrade() -> None:
    op.drop_index("ix_deployments_queue", table_name="deployments")
    op.drop_index(
        "uq_gpu_claims_whole",
        table_name="gpu_claims",
        sqlite_where=sa.text("milli = 1000"),
        postgresql_where=sa.text("milli = 1000"),
    )
    op.drop_table("gpu_claims")
    op.drop_index(op.f("ix_allocations_node_id"), table_name="allocations")
    op.drop_index(op.f("ix_allocations_deployment_id"), table_name="allocations")
    op.drop_index(op.f("ix_allocations_cluster_id"), table_name="allocations")
    op.drop_table("allocations")
    op.drop_index(op.f("ix_nominations_node_id"), table_name="nominations")
    op.drop_index(op.f("ix_nominations_cluster_id"), table_name="nominations")
    op.drop_table("nominations")
    op.drop_table("node_gpus")
    op.drop_index("ix_deployment_labels_key_value", table_name="deployment_labels")
    op.drop_table("deployment_labels")
    op.drop_index(op.f("ix_dependencies_depends_on_id"), table_name="dependencies")
    op.drop_table("dependencies")
    op.drop_index(
        "uq_attempts_live",
        table_name="attempts",
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.drop_index(
        "ix_attempts_preempted",
        table_name="attempts",
        sqlite_where=sa.text("preempted_by IS NOT NULL"),
        postgresql_where=sa.text("preempted_by IS NOT NULL"),
    )
    op.drop_index(op.f("ix_attempts_organization_id"), table_name="attempts")
    op.drop_index(op.f("ix_attempts_node_id"), table_name="attempts")
    op.drop_index("ix_attempts_deployment_id_number", table_name="attempts")
    op.drop_index("ix_attempts_cluster_id_id", table_name="attempts")
    op.drop_table("attempts")
    op.drop_index(op.f("ix_nodes_cluster_id"), table_name="nodes")
    op.drop_table("nodes")
    op.drop_index("ix_deployments_organization_id_state_priority", table_name="deployments")
    op.drop_index("ix_deployments_organization_id_state", table_name="deployments")
    op.drop_index("ix_deployments_organization_id_name", table_name="deployments")
    op.drop_index("ix_deployments_organization_id_id", table_name="deployments")
    op.drop_index("ix_deployments_cluster_id_state_id", table_name="deployments")
    op.drop_table("deployments")
    op.drop_index("ix_decisions_cluster_id_id", table_name="decisions")
    op.drop_index(op.f("ix_decisions_at"), table_name="decisions")
    op.drop_table("decisions")
    op.drop_index(op.f("ix_cluster_shares_organization_id"), table_name="cluster_shares")
    op.drop_table("cluster_shares")
    op.drop_index(
        "uq_refresh_tokens_live",
        table_name="refresh_tokens",
        sqlite_where=sa.text("used_at IS NULL"),
        postgresql_where=sa.text("used_at IS NULL"),
    )
    op.drop_index(op.f("ix_refresh_tokens_session_id"), table_name="refresh_tokens")
    op.drop_index(op.f("ix_refresh_tokens_expires_at"), table_name="refresh_tokens")
    op.drop_table("refresh_tokens")
    op.drop_index(op.f("ix_memberships_user_id"), table_name="memberships")
    op.drop_table("memberships")
    op.drop_index(op.f("ix_invites_organization_id"), table_name="invites")
    op.drop_table("invites")
    op.drop_index("ix_events_organization_id_id", table_name="events")
    op.drop_index("ix_events_deployment_id_id", table_name="events")
    op.drop_index(op.f("ix_events_at"), table_name="events")
    op.drop_table("events")
    op.drop_index(op.f("ix_clusters_organization_id"), table_name="clusters")
    op.drop_table("clusters")
    op.drop_table("organizations")
    op.drop_index(op.f("ix_login_sessions_user_id"), table_name="login_sessions")
    op.drop_index(op.f("ix_login_sessions_expires_at"), table_name="login_sessions")
    op.drop_table("login_sessions")
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("users")
    op.drop_table("servers")
    op.drop_index(op.f("ix_login_throttles_updated_at"), table_name="login_throttles")
    op.drop_table("login_throttles")
    op.drop_table("leases")
    op.drop_table("lease_epochs")
    op.drop_table("instance_gc")
    op.drop_table("installation")
    op.drop_table("engines")
