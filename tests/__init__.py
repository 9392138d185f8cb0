"""The tests. The tree mirrors the package: unit, component (real servers), contract (one a Protocol), e2e."""
