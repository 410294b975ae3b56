"""Resolve the manifest to commits, digests, sizes and hashes. `invoke lock` writes locks, every build reads them."""
