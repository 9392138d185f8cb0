"""Code of several benchmarks; `run_all` runs their quick forms and writes docs/benchmarks.md."""
