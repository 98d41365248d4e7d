"""What stays on disk: records, manifests, and the keys of results."""
