"""Locks: from intent to commits, digests, sizes and hashes; made by `invoke lock`, read by every build."""
