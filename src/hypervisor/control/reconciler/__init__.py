"""The reconciler: compare live attempts with what the engines report, and start, stop or conclude them."""
