"""The Docker runtime: each instance is a container on a Docker-compatible engine.

All calls go through the engine's HTTP API; no command line is ever built here.

- `runtime`: implements the protocol and combines the other modules.
- `config`: pure; translates a launch spec into a container configuration.
- `client`: the HTTP connection, and the meaning of its errors. `json_stream`: reads long responses.
- `launch`, `images`, `network`: create and start a container.
- `observe`, `event_listener`, `event_history`: read the state of containers.
- `stop`, `signals`, `removal`: stop and remove containers. `containers`: finds them by their label.
- `logs`, `log_window`: read their logs. `log_records`, `log_place`, `log_output`, `line_merger`: pure; the
  engine's records, places among them, and the output. `log_archive`, `record_file`: archive them.
- `endpoint`: finds the engine of this machine without loading the client.

This file imports nothing, because the client takes several megabytes.
"""
