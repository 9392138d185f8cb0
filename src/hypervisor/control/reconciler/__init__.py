"""The reconciler: compares live attempts with the reports of the engines; starts, stops, concludes them."""
