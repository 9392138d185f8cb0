"""`hypervisor org`: organizations, their members and invite codes."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.command_group import make_group
from hypervisor.cli.core.formatting import ago, deletion
from hypervisor.cli.core.output import facts, table
from hypervisor.cli.core.session import Session

app = make_group("Organizations: make, join, and see who belongs.")

Wanted = Annotated[
    str | None, typer.Argument(metavar="ORG", help="Name or id; not needed when you belong to one.")
]
Needed = Annotated[str, typer.Argument(metavar="ORG", help="Name or id.")]
OrgOption = Annotated[str | None, typer.Option("--org", envvar="HYPERVISOR_ORG", help="Name or id.")]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="admin, developer or viewer.")]


@app.command()
def create(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Make an organization; you become its admin."""
    session = Session.of(context)
    made = session.client.organizations.create(name)
    session.show(made, f"Organization {made['name']} is made (id {made['id']}); you are its admin.")
    session.note(
        "Next: `hypervisor org invite` shows the code that lets others in; `hypervisor cluster create`."
    )


@app.command("list")
def list_mine(context: typer.Context) -> None:
    """The organizations that you belong to."""
    session = Session.of(context)
    mine = session.client.organizations.all()
    rows = [(each["id"], each["name"], each.get("role"), ago(each.get("created_at"))) for each in mine]
    session.show(mine, table([">id", "name", "your role", ">age"], rows))


@app.command()
def show(context: typer.Context, organization: Wanted = None) -> None:
    """One organization."""
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
    context: typer.Context, organization: Needed, name: Annotated[str, typer.Argument(metavar="NEW-NAME")]
) -> None:
    """Give it another name."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    changed = session.client.organizations.rename(found["id"], name)
    session.show(changed, f"{found['name']} is now called {changed['name']}.")


@app.command()
def delete(
    context: typer.Context,
    organization: Needed,
    force: Annotated[bool, typer.Option("--force", help="Also stop what runs.")] = False,
) -> None:
    """Delete it, with its clusters and deployments."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    gone = session.client.organizations.delete(found["id"], force=force)
    session.show({"id": found["id"], "deleted": gone}, f"Organization {found['name']} {deletion(gone)}.")


@app.command()
def invite(
    context: typer.Context,
    organization: Wanted = None,
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Make a new code; the old one ends.")
    ] = False,
    role: Annotated[str | None, typer.Option(help="Role of those who join by the new code.")] = None,
    max_uses: Annotated[int | None, typer.Option(min=1, help="How many may use the new code.")] = None,
    expires_in_hours: Annotated[float | None, typer.Option(min=0.01, help="How long it works.")] = None,
) -> None:
    """Show the invite code, or make a new one."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    limits = {"role": role, "max_uses": max_uses, "expires_in_hours": expires_in_hours}
    if regenerate:
        code = session.client.organizations.regenerate_invite(
            found["id"], role=role, max_uses=max_uses, expires_in_hours=expires_in_hours
        )
    elif any(value is not None for value in limits.values()):
        raise typer.BadParameter("limits belong to a new code: add --regenerate")
    else:
        code = session.client.organizations.invite_code(found["id"])
    session.show(code, code["invite_code"])
    session.note(
        f"Whoever runs `hypervisor org join CODE` joins {found['name']} as {code.get('role', 'developer')}."
    )


@app.command()
def join(context: typer.Context, code: Annotated[str, typer.Argument(metavar="CODE")]) -> None:
    """Join an organization by its invite code."""
    session = Session.of(context)
    joined = session.client.organizations.join(code)
    name = joined.get("name") or joined.get("id")
    session.show(joined, f"You have joined {name} as {joined.get('role')}.")


@app.command()
def members(context: typer.Context, organization: Wanted = None) -> None:
    """Who belongs, in which role."""
    session = Session.of(context)
    found = session.client.organizations.members(resolve.organization(session, organization)["id"])
    rows = [(each["user_id"], each["username"], each.get("email"), each["role"]) for each in found]
    session.show(found, table([">id", "username", "e-mail", "role"], rows))


@app.command()
def role(
    context: typer.Context,
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Username or id.")],
    new_role: RoleName,
    organization: OrgOption = None,
) -> None:
    """Change a member's role."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    user_id = resolve.member_id(session, found["id"], member)
    changed = session.client.organizations.set_role(found["id"], user_id, new_role.lower())
    session.show(changed, f"{changed.get('username', member)} is now {changed['role']} in {found['name']}.")


@app.command()
def remove(
    context: typer.Context,
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Username or id; your own to leave.")],
    organization: OrgOption = None,
) -> None:
    """Remove a member."""
    session = Session.of(context)
    found = resolve.organization(session, organization)
    user_id = resolve.member_id(session, found["id"], member)
    session.client.organizations.remove_member(found["id"], user_id)
    session.show({"removed": user_id}, f"{member} has left {found['name']}.")
