"""What processes of one installation share beside the database: hints, the index of the queues, their site.

In this process's memory without Redis, else in Redis or Valkey; hints also by PostgreSQL's LISTEN and NOTIFY.
The database is the truth: losing any of it costs speed only.
"""
