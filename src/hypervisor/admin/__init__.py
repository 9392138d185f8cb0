"""The admin pages for superusers under /admin/. They can edit users and read other tables.

The pages come from starlette-admin with packaged files. No page loads anything from another host.
"""
