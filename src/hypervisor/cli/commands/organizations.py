"""`hypervisor org`: organizations, members and invite codes."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.command_group import make_group
from hypervisor.cli.core.formatting import ago, deletion
from hypervisor.cli.core.output import facts
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import table

app = make_group("Create and join organizations, and manage their members.")

OptionalOrganization = Annotated[
    str | None,
    typer.Argument(metavar="ORG", help="Organization name or id; optional with a single organization."),
]
OrganizationName = Annotated[str, typer.Argument(metavar="ORG", help="Organization name or id.")]
OrganizationOption = Annotated[
    str | None,
    typer.Option(
        "--org",
        metavar="ORG",
        envvar="HYPERVISOR_ORG",
        help="Organization name or id; optional with a single organization.",
    ),
]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="admin, developer or viewer.")]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the organization.")],
) -> None:
    """Create an organization; you become its admin."""
    session = Session.of(context)
    created = session.client.organizations.create(name)
    session.show(created, f"Created organization {created['name']} (id {created['id']}); you are its admin.")
    session.note("Next: `hypervisor cluster create`, and `hypervisor org invite` for the invite code.")


@app.command("list")
def list_organizations(context: typer.Context) -> None:
    """List your organizations."""
    session = Session.of(context)
    found = session.client.organizations.all()
    rows = [(item["id"], item["name"], item.get("role"), ago(item.get("created_at"))) for item in found]
    session.show(found, table([">id", "name", "your role", ">age"], rows, drops=("age",)))


@app.command()
def show(context: typer.Context, organization: OptionalOrganization = None) -> None:
    """Show an organization."""
    session = Session.of(context)
    found = session.client.organizations.get(resolve.organization(session, organization)["id"])
    session.show(
        found,
        facts(
            [
                ("Organization", found["name"]),
                ("Id", found["id"]),
                ("Your role", found.get("role")),
                ("Created", found.get("created_at")),
            ]
        ),
    )


@app.command()
def rename(
    context: typer.Context,
    organization: OrganizationName,
    name: Annotated[str, typer.Argument(metavar="NEW-NAME", help="New name of the organization.")],
) -> None:
    """Rename an organization."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    changed = session.client.organizations.rename(found["id"], name)
    session.show(changed, f"{found['name']} is now called {changed['name']}.")


@app.command()
def delete(
    context: typer.Context,
    organization: OrganizationName,
    force: Annotated[bool, typer.Option("--force", help="Stop running deployments first.")] = False,
) -> None:
    """Delete an organization with its clusters and deployments."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    deleted = session.client.organizations.delete(found["id"], force=force)
    session.show(
        {"id": found["id"], "deleted": deleted}, f"Organization {found['name']} {deletion(deleted)}."
    )


@app.command()
def invite(
    context: typer.Context,
    organization: OptionalOrganization = None,
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Create a new code; the old code becomes invalid.")
    ] = False,
    role: Annotated[
        str | None,
        typer.Option(help="Role that the new code grants: admin, developer (default) or viewer."),
    ] = None,
    max_uses: Annotated[
        int | None, typer.Option(min=1, help="Number of uses of the new code; default: unlimited.")
    ] = None,
    expires_in_hours: Annotated[
        float | None, typer.Option(min=0.01, help="Hours until the new code expires; default: never.")
    ] = None,
) -> None:
    """Show the invite code, or create a new one."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    limits = {"role": role, "max_uses": max_uses, "expires_in_hours": expires_in_hours}
    if regenerate:
        code = session.client.organizations.regenerate_invite(
            found["id"], role=role, max_uses=max_uses, expires_in_hours=expires_in_hours
        )
    elif any(value is not None for value in limits.values()):
        raise typer.BadParameter("--role, --max-uses and --expires-in-hours need --regenerate")
    else:
        code = session.client.organizations.invite_code(found["id"])
    session.show(code, code["invite_code"])
    session.note(
        f"Users join {found['name']} as {code.get('role', 'developer')} with `hypervisor org join CODE`."
    )


@app.command()
def join(
    context: typer.Context,
    code: Annotated[str, typer.Argument(metavar="CODE", help="Invite code, from an admin.")],
) -> None:
    """Join an organization by its invite code."""
    session = Session.of(context)
    joined = session.client.organizations.join(code)
    session.show(joined, f"Joined {joined['name']} as {joined['role']}.")


@app.command()
def members(context: typer.Context, organization: OptionalOrganization = None) -> None:
    """List the members with their roles."""
    session = Session.of(context)
    found = session.client.organizations.members(resolve.organization(session, organization)["id"])
    rows = [(member["user_id"], member["username"], member.get("email"), member["role"]) for member in found]
    session.show(found, table([">id", "username", "_e-mail", "role"], rows))


@app.command()
def role(
    context: typer.Context,
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Username or id.")],
    new_role: RoleName,
    organization: OrganizationOption = None,
) -> None:
    """Change the role of a member."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    user_id = resolve.member_id(session, found["id"], member)
    changed = session.client.organizations.set_role(found["id"], user_id, new_role.lower())
    session.show(changed, f"{changed.get('username', member)} is now {changed['role']} in {found['name']}.")


@app.command()
def remove(
    context: typer.Context,
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Username or id; your username to leave.")],
    organization: OrganizationOption = None,
) -> None:
    """Remove a member, or leave an organization."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    user_id = resolve.member_id(session, found["id"], member)
    session.client.organizations.remove_member(found["id"], user_id)
    session.show({"removed": user_id}, f"Removed {member} from {found['name']}.")
